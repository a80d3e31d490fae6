//! Everything that must be right before a packet is touched. Nothing here changes anything.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rtnetlink::Handle;

use super::error::{ControllerError, InterfacesError};
use super::interfaces::Interfaces;
use super::watch::find_primary;
use crate::config::{Config, Login};
use crate::net::{NetError, caps, vip};
use crate::postgres::{PgError, Server, Session};

/// How long others have to answer for a VIP.
const PATIENCE: Duration = Duration::from_millis(600);
/// The same while the controller has servers to watch, and its loop waits.
const HASTE: Duration = Duration::from_millis(150);

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

/// The interfaces of the configuration, fit for its VIPs.
pub(super) async fn interfaces(
    handle: &Handle,
    config: &Config,
) -> Result<Interfaces, InterfacesError> {
    let interfaces = Interfaces::find(handle, config).await?;
    interfaces.usable_for(&vips(config))?;
    Ok(interfaces)
}

/// Whether PostgreSQL accepts the login, as far as any host of the primary can be reached: a primary
/// that is down keeps no controller from starting, a wrong password does. Where no service asks a
/// primary, the listed nodes stand in for it.
pub(super) async fn login(config: &Config) -> Result<(), ControllerError> {
    let timeout = config.health().timeout();
    let refused = match config.primary() {
        Some(primary) => match find_primary(primary, config.login(), timeout).await {
            Ok(_) => return Ok(()),
            Err(errors) => {
                let at = |address| Server { address, port: primary.port() };
                errors.into_iter().map(|(host, error)| (at(host), error)).collect()
            }
        },
        None => refused_by_nodes(config.login(), &servers(config), timeout).await,
    };
    for (server, error) in refused {
        if let PgError::Password(source) = error {
            return Err(ControllerError::Passfile(source));
        }
        if error.is_login_refused() {
            return Err(ControllerError::Login {
                server: SocketAddr::new(server.address, server.port),
                user: config.login().user().to_owned(),
                source: Box::new(error),
            });
        }
    }
    Ok(())
}

/// What each of the servers said; nothing as soon as one of them accepts the login.
async fn refused_by_nodes(
    login: &Login,
    servers: &[Server],
    timeout: Duration,
) -> Vec<(Server, PgError)> {
    let mut opened: FuturesUnordered<_> = servers
        .iter()
        .map(|server| async { (*server, Session::open(login, *server, timeout).await.map(drop)) })
        .collect();
    let mut errors = Vec::new();
    while let Some((server, opened)) = opened.next().await {
        match opened {
            Ok(()) => return Vec::new(),
            Err(error) => errors.push((server, error)),
        }
    }
    errors
}

/// The listed nodes at each port of a service, each once.
fn servers(config: &Config) -> Vec<Server> {
    let ports: BTreeSet<u16> = config.services().iter().map(|service| service.port).collect();
    let nodes = config.nodes().iter();
    nodes
        .flat_map(|node| ports.iter().map(|port| Server { address: node.address, port: *port }))
        .collect()
}

/// Who else answers for one of the VIPs.
pub(super) async fn taken_vip(interfaces: &Interfaces, config: &Config) -> Result<(), NetError> {
    taken(interfaces, &vips(config), PATIENCE).await
}

/// Who else answers for one of the VIPs that a data plane serves already.
pub(super) async fn shared_vip(interfaces: &Interfaces, config: &Config) -> Result<(), NetError> {
    taken(interfaces, &vips(config), HASTE).await
}

/// Who answers for one of the VIPs that a running controller is to serve besides its own.
pub(super) async fn taken_new_vip(
    interfaces: &Interfaces,
    old: &Config,
    new: &Config,
) -> Result<(), NetError> {
    let old = vips(old);
    let new: Vec<_> = vips(new).into_iter().filter(|vip| !old.contains(vip)).collect();
    taken(interfaces, &new, HASTE).await
}

async fn taken(
    interfaces: &Interfaces,
    vips: &[IpAddr],
    patience: Duration,
) -> Result<(), NetError> {
    let probes = vips.iter().map(|vip| async {
        match vip::probe(interfaces.of(*vip), *vip, patience).await? {
            Some(mac) => Err(NetError::VipTaken { vip: *vip, mac }),
            None => Ok(()),
        }
    });
    try_join_all(probes).await.map(drop)
}

/// The VIPs, each once.
pub(super) fn vips(config: &Config) -> Vec<IpAddr> {
    let mut vips: Vec<_> = config.services().iter().map(|service| service.vip).collect();
    vips.sort_unstable();
    vips.dedup();
    vips
}
