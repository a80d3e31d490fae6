//! What `pgha status` shows, and the control API sends.

mod order;
mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use pgha_common::maps::name;
use pgha_machine::balancer::{Path, ReaderOrder, ServiceView, Unplaced, Withheld};
use pgha_machine::{NodeName, Timeline};
use serde::{Deserialize, Serialize};

pub use request::{
    OrderKind, OrderReply, OrderRequest, ReaderReply, ReaderRequest, Refusal, ReloadReply,
    RoleOrder, RoleReply, RoleRequest,
};

use super::state::StateStatus;
use crate::bpf::xdp::Survey;
use crate::config::Peer;

/// Number of the form of everything the API sends; a field is only ever added without a new one.
pub const SCHEMA: u32 = 3;

/// The whole state of one director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the controller.
    pub version: String,
    /// Name of the cluster.
    pub cluster: NodeName,
    /// This director.
    pub director: DirectorStatus,
    /// The primary, where any service asks it.
    pub primary: Option<PrimaryStatus>,
    /// The virtual services.
    pub services: Vec<ServiceStatus>,
    /// The configuration's nodes.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
    /// The servers that operators added as readers.
    #[serde(default)]
    pub readers: Vec<ReaderOrder>,
    /// Real servers that get no traffic because this director has as many as it has room for.
    #[serde(default)]
    pub without_id: Vec<Unserved>,
    /// What operators set is kept there.
    #[serde(default)]
    pub store: StoreStatus,
    /// The API over TCP, where it is configured.
    #[serde(default)]
    pub api: Option<ApiStatus>,
    /// When the controller started: seconds since the Unix epoch.
    #[serde(default)]
    pub started: u64,
    /// Frames received since the maps were made.
    pub received: u64,
    /// The same frames by reason of their verdict; together they are `received`.
    pub reasons: BTreeMap<String, u64>,
}

/// This director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorStatus {
    /// Name of its host.
    #[serde(default)]
    pub host: String,
    /// The other directors.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    /// Its interfaces, in the order of their numbers.
    pub interfaces: Vec<InterfaceStatus>,
    /// Whether the program is on the interfaces.
    pub attached: bool,
    /// Why it reaches nobody, if it is so: everybody stays as he was, and new connections may go nowhere.
    #[serde(default)]
    pub cut_off: Option<String>,
    /// `native` or `generic`: where in the kernel it runs there.
    pub mode: Option<String>,
    /// Whether ARP and neighbour solicitations for the VIPs are answered.
    pub active: bool,
    /// `active`, `taking_over` or `standby`: what it is to do with them.
    pub role: String,
    /// Entries of the table of established IPv4 flows.
    pub flows: u32,
    /// Entries of the table of established IPv6 flows.
    pub flows_ipv6: u32,
    /// Entries of the table of pending IPv4 flows.
    pub pending_flows: u32,
    /// Entries of the table of pending IPv6 flows.
    pub pending_flows_ipv6: u32,
    /// How many of these entries were in use when the tables were last gone through; missing before.
    #[serde(default)]
    pub in_use: Option<FlowsInUse>,
    /// Id of the controller's process.
    pub pid: u32,
    /// Whether this controller took the data plane over from another.
    pub taken_over: bool,
}

/// Flows in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsInUse {
    /// Established, IPv4.
    pub flows: u64,
    /// Established, IPv6.
    pub flows_ipv6: u64,
    /// Pending, IPv4.
    pub pending_flows: u64,
    /// Pending, IPv6.
    pub pending_flows_ipv6: u64,
}

impl FlowsInUse {
    pub(super) fn of(survey: &Survey) -> Self {
        let of = |map| survey.in_use.get(map).copied().unwrap_or_default();
        Self {
            flows: of(name::ESTABLISHED),
            flows_ipv6: of(name::ESTABLISHED6),
            pending_flows: of(name::PENDING),
            pending_flows_ipv6: of(name::PENDING6),
        }
    }
}

/// Another director, of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: NodeName,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

impl PeerStatus {
    pub(super) fn of(peer: &Peer) -> Self {
        Self { name: peer.name().clone(), addresses: peer.addresses().to_vec() }
    }
}

impl Status {
    /// The other directors, where they keep orders of their own.
    #[must_use]
    pub fn apart(&self) -> Vec<NodeName> {
        let peers = self.director.peers.iter().map(|peer| &peer.name);
        self.store.apart(peers)
    }
}

/// One interface of a director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
}

/// The primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryStatus {
    /// Whether it answered when it was last asked.
    pub answers: bool,
    /// Where it answered last.
    pub host: Option<IpAddr>,
    /// Its port there.
    #[serde(default)]
    pub port: Option<u16>,
    /// The name of the node there, where it has one.
    #[serde(default)]
    pub name: Option<NodeName>,
    /// The timeline it wrote then.
    #[serde(default)]
    pub timeline: Option<Timeline>,
    /// Its system identifier, in decimal.
    #[serde(default)]
    pub system: Option<String>,
    /// End of its WAL then.
    pub lsn: Option<String>,
    /// For how long it has not answered, in milliseconds: so old is what is known of walsenders.
    pub stale_ms: Option<u64>,
    /// Since when: seconds since the Unix epoch.
    #[serde(default)]
    pub stale_since: Option<u64>,
    /// The hosts that all are out of recovery and none on an older timeline, where that is more than
    /// one: nothing changes until a person has settled it.
    #[serde(default)]
    pub several: Vec<PrimaryClaim>,
    /// The hosts that are out of recovery on an older timeline than the primary's: former primaries.
    #[serde(default)]
    pub stale: Vec<PrimaryClaim>,
    /// Its streaming walsenders that lead to no server.
    #[serde(default)]
    pub unplaced: Vec<UnplacedWalsender>,
    /// What its hosts said instead.
    pub errors: Vec<String>,
}

/// A streaming walsender of the primary of which nobody can tell whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnplacedWalsender {
    /// What the other end calls itself.
    pub application_name: String,
    /// Where it connects from; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// Why that leads nowhere.
    pub reason: Unplaced,
}

/// A host that says it is not in recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryClaim {
    /// The name of the node there, where it has one.
    pub name: Option<NodeName>,
    /// Its address.
    pub host: IpAddr,
    /// Its port.
    pub port: u16,
    /// The timeline it writes.
    pub timeline: Option<Timeline>,
    /// Its system identifier, in decimal: JSON's numbers do not hold all of them.
    pub system: Option<String>,
}

impl fmt::Display for PrimaryClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = SocketAddr::new(self.host, self.port);
        match &self.name {
            Some(name) => write!(f, "{name} ({at})")?,
            None => write!(f, "{at}")?,
        }
        match self.timeline {
            Some(timeline) => write!(f, " on timeline {timeline}")?,
            None => f.write_str(" on an unknown timeline")?,
        }
        self.system.as_ref().map_or(Ok(()), |system| write!(f, " of system {system}"))
    }
}

/// One virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// What was decided.
    #[serde(flatten)]
    pub view: ServiceView,
    /// What each real server is to new connections, and why, by its id.
    #[serde(default)]
    pub states: BTreeMap<u16, StateStatus>,
    /// What each real server got, by its id.
    pub traffic: BTreeMap<u16, TrafficStatus>,
    /// How the probes of each real server through the VIP ended, by its address.
    #[serde(default)]
    pub probes: BTreeMap<IpAddr, ProbeStatus>,
    /// Since when each is as it is, by its id.
    #[serde(default)]
    pub changed: BTreeMap<u16, ChangedStatus>,
}

impl ServiceStatus {
    /// What the last probe of a real server through the VIP was told on its way, by ICMP.
    #[must_use]
    pub fn said(&self, address: IpAddr) -> Option<&str> {
        self.probes.get(&address)?.said.as_deref()
    }
}

/// How the probes of one real server through one VIP ended, since the controller began them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// Somebody listens there.
    pub open: u64,
    /// Nobody listens there.
    pub refused: u64,
    /// PostgreSQL takes no sessions there.
    pub not_accepting: u64,
    /// No answer came.
    pub silent: u64,
    /// They could not be carried out.
    pub undecided: u64,
    /// What the last one was told on its way, by ICMP.
    pub said: Option<String>,
}

/// Since when a real server is as it is. The controller counts from its own start on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedStatus {
    /// When its state was another last: seconds since the Unix epoch.
    pub state: u64,
    /// Since when each reason has been one for which it gets no new connections.
    pub withheld: Vec<SinceStatus>,
}

/// Since when something has been so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinceStatus {
    /// What.
    pub reason: Withheld,
    /// Since when: seconds since the Unix epoch.
    pub since: u64,
}

/// A real server of a service that has none of this director's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unserved {
    /// The service's address.
    pub vip: IpAddr,
    /// The service's TCP port.
    pub port: u16,
    /// The server's address.
    pub address: IpAddr,
}

impl Unserved {
    pub(super) const fn of(path: &Path) -> Self {
        let Path { vip, port, address } = *path;
        Self { vip, port, address }
    }
}

/// A node of the configuration's table, member of a service or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub address: IpAddr,
}

/// What a real server got since it has its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Frames.
    pub packets: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// New flows.
    pub flows: u64,
    /// Flows that are open, about.
    #[serde(default)]
    pub open: u64,
}

/// Where orders are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `local` or `etcd`.
    pub kind: String,
    /// Its file; of an `etcd`, the one that remembers how far it had come.
    pub path: PathBuf,
    /// Whether the other directors have the same orders by it. Otherwise each has its own.
    #[serde(default)]
    pub shared: bool,
    /// The members of an `etcd`.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Which making of the store it is; missing while it was never read.
    pub incarnation: Option<String>,
    /// How many changes it had seen when the orders were written that are in force.
    pub revision: Option<u64>,
    /// Whether it can be read and written.
    pub answers: bool,
    /// Why not.
    pub error: Option<String>,
    /// Since when not: seconds since the Unix epoch.
    pub stale_since: Option<u64>,
}

impl StoreStatus {
    /// Those of the other directors that keep orders of their own.
    pub(super) fn apart<'a>(&self, peers: impl Iterator<Item = &'a NodeName>) -> Vec<NodeName> {
        peers.filter(|_| !self.shared).cloned().collect()
    }
}

/// The API over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiStatus {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Whose certificate it shows.
    pub name: String,
    /// Until when that can be used: seconds since the Unix epoch.
    pub until: u64,
    /// How many whole days that is away; below 0 once it is over.
    pub days_left: i64,
    /// Why its files cannot be used, if they were changed into such: those read before are in force.
    pub error: Option<String>,
}
