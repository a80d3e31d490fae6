//! Everything that must be right before a packet is touched. Nothing here changes anything.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use pgha_machine::balancer::Node;
use pgha_machine::director::{Heard, Role, first_role};
use rtnetlink::Handle;

use super::error::{ControllerError, InterfacesError};
use super::interfaces::Interfaces;
use super::peers::{self, Peers};
use super::watch::find_primary;
use crate::config::{Config, SslMode};
use crate::net::vip::{self, User};
use crate::net::{NetError, caps};
use crate::postgres::{Connector, PgError, Server, Session, TlsFileError};

/// How long others have to answer for a VIP.
const PATIENCE: Duration = Duration::from_millis(600);
/// The same while the controller has servers to watch, and its loop waits.
const HASTE: Duration = Duration::from_millis(150);

/// The capabilities a controller needs; see capabilities(7).
pub(crate) const CAPABILITIES: &[caps::Capability] = &[
    caps::Capability::Bpf,
    caps::Capability::NetAdmin,
    caps::Capability::NetRaw,
    caps::Capability::Perfmon,
];

/// Gives up what a controller does not need, before anything is read that the next controller, or this one when it
/// reloads, could not read.
pub(super) fn give_up_rights() -> Result<(), ControllerError> {
    Ok(caps::keep(CAPABILITIES)?)
}

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
    interfaces.warn_of_lost_tags(config.director().vlan());
    Ok(interfaces)
}

/// Whether PostgreSQL accepts the login, as far as any host of the primary can be reached: a primary
/// that is down keeps no controller from starting, a wrong password does. Where no service asks a
/// primary, the listed nodes stand in for it.
pub(super) async fn login(config: &Config) -> Result<(), ControllerError> {
    let timeout = config.health().timeout();
    let connector = Connector::new(config);
    tls_files(config).map_err(ControllerError::TlsFile)?;
    let refused = match config.primary() {
        Some(primary) => match find_primary(primary, &connector, timeout).await {
            Ok(()) => return Ok(()),
            Err(errors) => errors,
        },
        None => refused_by_nodes(&connector, &servers(config), timeout).await,
    };
    for (server, error) in refused {
        if let PgError::Password(source) = error {
            return Err(ControllerError::Passfile(source));
        }
        if error.is_login_refused() {
            let user = config.login().user().to_owned();
            return Err(ControllerError::Login { server, user, source: Box::new(error) });
        }
    }
    Ok(())
}

/// Whether the files that TLS with PostgreSQL needs can be used.
pub(super) fn tls_files(config: &Config) -> Result<(), TlsFileError> {
    if config.login().tls().mode() == SslMode::Disable {
        return Ok(());
    }
    Connector::new(config).tls().map(drop)
}

/// What each of the servers said; nothing as soon as one of them accepts the login.
async fn refused_by_nodes(
    connector: &Connector,
    servers: &[Server],
    timeout: Duration,
) -> Vec<(Server, PgError)> {
    let mut opened: FuturesUnordered<_> = servers
        .iter()
        .map(|server| async {
            (*server, Session::open(connector, *server, timeout).await.map(drop))
        })
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
    nodes.flat_map(|node| ports.iter().map(|port| Server::new(node.address, *port))).collect()
}

/// The role to begin with, by who else is heard to use the VIPs and by whether a former controller's data plane answers
/// for the VIPs; `None` where there is none.
pub(super) async fn role(
    interfaces: &Interfaces,
    config: &Config,
    inherited: Option<bool>,
) -> Result<Role, NetError> {
    let patience = if inherited.is_some() { HASTE } else { PATIENCE };
    let heard = &heard(interfaces, &vips(config), patience).await?;
    if heard.is_empty() {
        return Ok(first_role(inherited, heard, |_| false).unwrap_or(Role::Standby));
    }
    let wanted = heard.iter().map(|heard| heard.by).collect();
    let peers = peers::ask(interfaces, config.director(), &wanted).await?;
    let role = match first_role(inherited, heard, |mac| peers.has(mac)) {
        Ok(role) => role,
        Err(stranger) => return Err(taken(interfaces, config, stranger).await),
    };
    for heard in heard.iter().filter(|heard| !heard.asks) {
        if peers.has(heard.by) {
            tracing::info!(
                "director {} answers for VIP {}; this one stands by",
                heard.by,
                heard.vip
            );
        } else {
            // A data plane that serves is not given up because a stranger answers too.
            tracing::warn!("{}", taken(interfaces, config, *heard).await);
        }
    }
    Ok(role)
}

/// Whether nobody but another director uses one of the VIPs that a running controller is to serve besides
/// its own.
pub(super) async fn new_vips_free(
    interfaces: &Interfaces,
    old: &Config,
    config: &Config,
    peers: &Peers,
) -> Result<(), NetError> {
    let old = vips(old);
    let vips: Vec<_> = vips(config).into_iter().filter(|vip| !old.contains(vip)).collect();
    let heard = heard(interfaces, &vips, HASTE).await?;
    match heard.into_iter().find(|heard| !peers.has(heard.by)) {
        Some(stranger) => Err(taken(interfaces, config, stranger).await),
        None => Ok(()),
    }
}

/// Who has a VIP: a listed real server is named.
async fn taken(interfaces: &Interfaces, config: &Config, heard: Heard) -> NetError {
    let Heard { vip, by: mac, .. } = heard;
    let nodes = config.nodes().iter().filter(|node| !interfaces.have(node.address));
    let addresses = nodes.clone().map(|node| node.address).collect();
    let known = peers::macs(interfaces, &addresses, &[mac].into()).await.unwrap_or_default();
    let has_it = |node: &&Node| known.get(&node.address) == Some(&mac);
    match nodes.clone().find(has_it) {
        Some(node) => {
            NetError::VipLeaks { vip, mac, server: format!("{} ({})", node.name, node.address) }
        }
        None => NetError::VipTaken { vip, mac },
    }
}

async fn heard(
    interfaces: &Interfaces,
    vips: &[IpAddr],
    patience: Duration,
) -> Result<Vec<Heard>, NetError> {
    let probes = vips.iter().map(|vip| async {
        let interface = interfaces.of(*vip);
        let user = vip::probe(interface, *vip, patience).await?;
        let heard =
            |user: User| Heard { vip: *vip, by: user.mac, own: interface.mac(), asks: user.asks };
        Ok(user.map(heard))
    });
    Ok(try_join_all(probes).await?.into_iter().flatten().collect())
}

/// The VIPs, each once.
pub(crate) fn vips(config: &Config) -> Vec<IpAddr> {
    let mut vips: Vec<_> = config.services().iter().map(|service| service.vip).collect();
    vips.sort_unstable();
    vips.dedup();
    vips
}
