//! The interfaces, the VIPs on their links, and the ways to the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use pgha_machine::Mac;

use crate::bpf::xdp::program_name;
use crate::check::facts::{Answerer, Interface, Path, Program, Seen, Server, Traits, Vip, Who};
use crate::config::Config;
use crate::controller::{Interfaces, vips};
use crate::net::realserver::on_another_interface;
use crate::net::{
    self, Change, NeighbourEvent, NeighbourWatch, NetError, Netlink, offload, ping, vip,
    xdp_features,
};

/// How long others have to answer for a VIP; three probes are sent meanwhile.
const PATIENCE_VIP: Duration = Duration::from_millis(900);
/// How long a host has to say its MAC address, or to answer an echo request.
const PATIENCE: Duration = Duration::from_secs(1);
/// A short packet: any host of any network takes it.
const SHORT: usize = 84;

/// What is seen of the network.
pub(super) struct Network {
    /// As the controller would use them; `None` when they cannot be.
    found: Option<Interfaces>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) usable: Seen<()>,
    pub(super) vips: Vec<Vip>,
}

pub(super) async fn look(config: &Config, wanted: bool) -> Network {
    let nothing = |why: Seen<()>| Network {
        found: None,
        interfaces: Vec::new(),
        usable: why,
        vips: Vec::new(),
    };
    if !wanted {
        return nothing(Ok(()));
    }
    let netlink = match Netlink::connect() {
        Ok(netlink) => netlink,
        Err(error) => return nothing(Err(error.to_string())),
    };
    let handle = netlink.handle();
    let names = config.director().interfaces();
    let interfaces = join_all(names.iter().map(async |name| {
        Interface {
            name: name.clone(),
            seen: net::Interface::find(handle, name)
                .await
                .map(|found| traits(&found))
                .map_err(|error| error.to_string()),
        }
    }))
    .await;
    let found = match Interfaces::find(handle, config).await {
        Ok(found) => found,
        Err(error) => return Network { interfaces, ..nothing(Err(error.to_string())) },
    };
    let all = vips(config);
    let usable = found.usable_for(&all).map_err(|error| error.to_string());
    let elsewhere = on_another_interface(&all).await.unwrap_or_default();
    let answered = join_all(all.iter().map(async |vip| {
        vip::probe(found.of(*vip), *vip, PATIENCE_VIP).await.map_err(|error| error.to_string())
    }))
    .await;
    let anybody = answered.iter().any(|answered| matches!(answered, Ok(Some(_))));
    let known = if anybody { owners(&found, config).await } else { BTreeMap::new() };
    let answerer = |user: vip::User| Answerer {
        mac: user.mac,
        who: known.get(&user.mac).cloned().unwrap_or(Who::Stranger),
        asks: user.asks,
    };
    let vips = all
        .into_iter()
        .zip(answered)
        .map(|(vip, answered)| Vip {
            vip,
            here: elsewhere.get(&vip).cloned(),
            answered: answered.map(|user| user.map(answerer)),
        })
        .collect();
    Network { found: Some(found), interfaces, usable, vips }
}

fn traits(found: &net::Interface) -> Traits {
    let name = found.name();
    let told = |seen: Result<bool, NetError>| seen.map_err(|error| error.to_string());
    Traits {
        mtu: found.mtu(),
        veth: found.is_veth(),
        subnets: found.subnets().to_vec(),
        program: found.xdp().map(|attachment| Program {
            id: attachment.prog_id,
            name: program_name(attachment.prog_id),
            generic: attachment.generic,
        }),
        native: xdp_features::native(found.index()).map_err(|error| error.to_string()),
        takes_tags_off: told(offload::takes_tags_off(name)),
        joins_segments: told(offload::joins_segments(name)),
        leaves_checksums: told(offload::leaves_checksums(name)),
    }
}

/// Whose MAC addresses are known: those of the other directors and of the listed nodes. Who does not
/// answer within a second is not known.
async fn owners(interfaces: &Interfaces, config: &Config) -> BTreeMap<Mac, Who> {
    let peers = config.director().peers().iter().flat_map(|peer| {
        peer.addresses().iter().map(|address| (*address, Who::Peer(peer.name().clone())))
    });
    let nodes = config.nodes().iter().map(|node| (node.address, Who::Node(node.name.clone())));
    // A director that is a node too is found as a director.
    let by_address: BTreeMap<_, _> = nodes.chain(peers).collect();
    let mut known = BTreeMap::new();
    let listen = async {
        let mut watch = NeighbourWatch::new(&interfaces.indices())?;
        let mut waited: BTreeSet<_> = by_address.keys().copied().collect();
        for address in &waited {
            watch.resolve(interfaces.of(*address).index(), *address).await?;
        }
        while !waited.is_empty() {
            if let Change::Neighbour(NeighbourEvent { address, mac: Some(mac), .. }) =
                watch.next().await?
                && let Some(who) = by_address.get(&address)
            {
                waited.remove(&address);
                known.insert(mac, who.clone());
            }
        }
        Ok::<_, NetError>(())
    };
    // What is known by then counts, whatever ended it.
    let _ = tokio::time::timeout(PATIENCE, listen).await;
    known
}

/// The servers, each with what is known of the way to it.
pub(super) async fn ways(
    network: &Network,
    servers: Vec<Server>,
    local: &BTreeSet<IpAddr>,
) -> Vec<Server> {
    let Some(found) = &network.found else { return servers };
    let hosts: BTreeSet<_> = servers.iter().map(|server| server.at.ip()).collect();
    let hosts = hosts.into_iter().filter(|host| !local.contains(host));
    let seen = hosts.map(async |host| (host, way(host, found.of(host).mtu()).await));
    let ways: BTreeMap<_, _> = join_all(seen).await.into_iter().collect();
    let with_path = |server: Server| {
        let path = ways.get(&server.at.ip()).cloned();
        Server { path, ..server }
    };
    servers.into_iter().map(with_path).collect()
}

async fn way(host: IpAddr, mtu: u32) -> Seen<Path> {
    let length = usize::try_from(mtu).unwrap_or(usize::MAX);
    let (short, long) =
        tokio::join!(ping::answers(host, SHORT, PATIENCE), ping::answers(host, length, PATIENCE));
    let told = |error: NetError| error.to_string();
    Ok(Path { mtu, short: short.map_err(told)?, long: long.map_err(told)? })
}
