//! Looking: every question with a deadline, side by side, and nothing changed by any.

mod network;
mod servers;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Request;
use super::facts::{Facts, Kernel, RealServer, Role, Seen};
use crate::bpf::xdp::Pinned;
use crate::bpf::{PinDirectory, PinError, kernel, xdp};
use crate::config::{Config, StorePlace};
use crate::controller::{CAPABILITIES, vips};
use crate::net::realserver::{self, rp_filters};
use crate::net::{Netlink, caps, local_addresses};
use crate::store::{Etcd, Health};

/// Everything there is to see.
pub(super) async fn facts(request: &Request<'_>, config: &Config, tell: &dyn Fn(&str)) -> Facts {
    let local = local().await;
    let (pinned, bpffs) = pinned(config);
    let balances = request.controller.is_ok() || matches!(pinned, Some(Ok(Pinned::Ours { .. })));
    let role = request.role.unwrap_or_else(|| role(config, &local, balances));
    tell("asking PostgreSQL, the kernel and the network");
    let (servers, network, real_server, store) = tokio::join!(
        servers::ask(config, tell),
        network::look(config, role.director),
        real_server(config, role.real_server),
        store(config, role.director),
    );
    tell("sending frames of full length to the servers");
    let servers = network::ways(&network, servers, &local).await;
    Facts {
        role,
        missing: caps::missing(CAPABILITIES).map_err(|error| error.to_string()),
        kernel: kernel(),
        bpffs,
        pinned,
        controller: match &request.controller {
            Ok(status) => Ok(status.clone()),
            Err(why) => Err(why.clone()),
        },
        interfaces: network.interfaces,
        usable: network.usable,
        vips: network.vips,
        store,
        real_server,
        servers,
    }
}

async fn local() -> BTreeSet<IpAddr> {
    let Ok(netlink) = Netlink::connect() else { return BTreeSet::new() };
    local_addresses(netlink.handle()).await.unwrap_or_default()
}

/// The configuration does not say which nodes balance: a listed one does if something of a director is
/// there already.
fn role(config: &Config, local: &BTreeSet<IpAddr>, balances: bool) -> Role {
    let listed = config.nodes().iter().any(|node| local.contains(&node.address));
    Role { director: !listed || balances, real_server: listed }
}

fn kernel() -> Kernel {
    let (release, version) = kernel::running();
    Kernel {
        release,
        version,
        btf: kernel::has_btf(),
        jit: kernel::jit(),
        missing: kernel::missing(),
        available: kernel::available_memory(),
    }
}

fn pinned(config: &Config) -> (Option<Seen<Pinned>>, bool) {
    let director = config.director();
    match PinDirectory::new(director.bpffs(), config.cluster().as_str()) {
        Ok(pins) => {
            let seen = xdp::look(&pins, director.interfaces().len());
            (Some(seen.map_err(|error| error.to_string())), true)
        }
        Err(PinError::NotBpffs(_)) => (None, false),
        Err(error) => (Some(Err(error.to_string())), true),
    }
}

async fn store(config: &Config, wanted: bool) -> Option<Health> {
    match config.store() {
        StorePlace::Etcd(etcd) if wanted => Some(Etcd::new(etcd, config.cluster()).health().await),
        StorePlace::Etcd(_) | StorePlace::Local(_) => None,
    }
}

async fn real_server(config: &Config, wanted: bool) -> Option<RealServer> {
    if !wanted {
        return None;
    }
    let look = realserver::look(&vips(config)).await.map_err(|error| error.to_string());
    Some(RealServer { look, rp_filter: rp_filters().await.unwrap_or_default() })
}
