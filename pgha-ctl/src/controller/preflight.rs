//! Everything that must be right before a packet is touched. Nothing here changes anything.

use std::net::Ipv4Addr;
use std::time::Duration;

use rtnetlink::Handle;

use super::ControllerError;
use super::watch::find_primary;
use crate::config::Config;
use crate::net::{self, Interface, arp, caps};

/// How long others have to answer for a VIP.
const ARP_PATIENCE: Duration = Duration::from_millis(600);

/// The capabilities a controller needs; see capabilities(7).
const CAPABILITIES: &[caps::Capability] = &[
    caps::Capability::Bpf,
    caps::Capability::NetAdmin,
    caps::Capability::NetRaw,
    caps::Capability::Perfmon,
];

/// Whether this process may do what a controller does.
pub(super) fn capabilities() -> Result<(), ControllerError> {
    let missing = caps::missing(CAPABILITIES)?;
    if missing.is_empty() { Ok(()) } else { Err(ControllerError::Capabilities(missing)) }
}

/// The interface of the configuration, fit for its VIPs.
pub(super) async fn interface(
    handle: &Handle,
    config: &Config,
) -> Result<Interface, ControllerError> {
    let interface = Interface::find(handle, config.director().interface()).await?;
    interface.usable_for(&vips(config))?;
    Ok(interface)
}

/// Whether PostgreSQL accepts the login, as far as any host of the primary can be reached: a primary
/// that is down keeps no controller from starting, a wrong password does.
pub(super) async fn login(config: &Config) -> Result<(), ControllerError> {
    let Some(primary) = config.primary() else { return Ok(()) };
    let Err(errors) = find_primary(primary, config.login(), config.health().timeout()).await else {
        return Ok(());
    };
    for (host, error) in errors {
        if error.is_login_refused() {
            return Err(ControllerError::Login {
                host,
                port: primary.port(),
                user: config.login().user().to_owned(),
                source: Box::new(error),
            });
        }
    }
    Ok(())
}

/// Who else answers for one of the VIPs.
pub(super) async fn taken_vip(interface: &Interface, config: &Config) -> Result<(), net::NetError> {
    for vip in vips(config) {
        if let Some(mac) = arp::probe(interface, vip, ARP_PATIENCE).await? {
            return Err(net::NetError::VipTaken { vip, mac });
        }
    }
    Ok(())
}

/// The VIPs, each once.
pub(super) fn vips(config: &Config) -> Vec<Ipv4Addr> {
    let mut vips: Vec<_> = config.services().iter().map(|service| service.vip).collect();
    vips.sort_unstable();
    vips.dedup();
    vips
}
