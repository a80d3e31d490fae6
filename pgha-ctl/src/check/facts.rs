//! What was seen, before it is judged.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use pgha_machine::{Mac, NodeName};
use serde::{Deserialize, Serialize};

use crate::bpf::kernel;
use crate::bpf::xdp::Pinned;
use crate::controller::status::Status;
use crate::net::caps::Capability;
use crate::net::realserver::Look;
use crate::postgres::inspect::Inspection;
use crate::store::Health;

/// What was seen of something, or in one sentence why it could not be seen.
pub(super) type Seen<T> = Result<T, String>;

/// What a node is looked at as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// It balances.
    pub director: bool,
    /// It serves the VIPs' clients.
    pub real_server: bool,
}

/// Everything that was seen.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) role: Role,
    /// What this process may do.
    pub(super) missing: Seen<Vec<Capability>>,
    pub(super) kernel: Kernel,
    /// A BPF file system is mounted where the configuration says.
    pub(super) bpffs: bool,
    /// Nothing of it is known without a BPF file system.
    pub(super) pinned: Option<Seen<Pinned>>,
    pub(super) controller: Seen<Box<Status>>,
    /// The members of an etcd; `None` with another store, or on a node that has no use for it.
    pub(super) store: Option<Health>,
    pub(super) interfaces: Vec<Interface>,
    /// Whether the interfaces can serve the VIPs.
    pub(super) usable: Seen<()>,
    pub(super) vips: Vec<Vip>,
    /// This node as a real server, where it is one.
    pub(super) real_server: Option<RealServer>,
    pub(super) servers: Vec<Server>,
}

/// The kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) release: String,
    pub(super) version: Option<kernel::Version>,
    pub(super) btf: bool,
    pub(super) jit: Option<bool>,
    /// What it lacks of what the data plane is made of.
    pub(super) missing: Seen<Vec<&'static str>>,
    /// In kilobytes.
    pub(super) available: Option<u64>,
}

/// One of the director's interfaces.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) seen: Seen<Traits>,
}

/// What an interface is like.
#[derive(Clone, Debug)]
pub(super) struct Traits {
    pub(super) mtu: u32,
    pub(super) veth: bool,
    pub(super) subnets: Vec<IpNet>,
    pub(super) program: Option<Program>,
    /// Whether its driver runs XDP programs; `None` where the kernel cannot tell.
    pub(super) native: Seen<Option<bool>>,
    pub(super) takes_tags_off: Seen<bool>,
    pub(super) joins_segments: Seen<bool>,
    pub(super) leaves_checksums: Seen<bool>,
}

/// The XDP program of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) generic: bool,
}

/// One VIP.
#[derive(Debug)]
pub(super) struct Vip {
    pub(super) vip: IpAddr,
    /// An interface of this node other than `lo` that has it.
    pub(super) here: Option<String>,
    /// Who else answers for it.
    pub(super) answered: Seen<Option<Answerer>>,
}

/// Who answers for a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answerer {
    pub(super) mac: Mac,
    pub(super) who: Who,
    /// It only asks whether anybody has it.
    pub(super) asks: bool,
}

/// Whose a MAC address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Another director.
    Peer(NodeName),
    /// A listed node.
    Node(NodeName),
    /// Nobody in the configuration.
    Stranger,
}

/// This node as a real server.
#[derive(Debug)]
pub(super) struct RealServer {
    pub(super) look: Seen<Look>,
    /// `rp_filter` in force on each interface that has an address.
    pub(super) rp_filter: Vec<(String, i32)>,
}

/// One PostgreSQL.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: Option<NodeName>,
    pub(super) at: SocketAddr,
    /// It may be the primary, by the configuration.
    pub(super) candidate: bool,
    /// It is a listed node.
    pub(super) listed: bool,
    pub(super) answer: Result<Inspection, Trouble>,
    /// Whether frames as long as the interface's get there; `None` for this very node.
    pub(super) path: Option<Seen<Path>>,
}

/// The way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Of the interface that leads there.
    pub(super) mtu: u32,
    /// It answers short echo requests.
    pub(super) short: bool,
    /// It answers those of `mtu` bytes.
    pub(super) long: bool,
}

/// Why a server did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    /// What was said.
    pub(super) told: String,
}

/// Kinds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TroubleKind {
    /// Nobody listens there.
    Refused,
    /// Nothing comes back.
    Silent,
    /// The two sides do not agree on TLS.
    Tls,
    /// PostgreSQL refuses the login.
    Login,
    /// PostgreSQL starts or stops, or takes no sessions while it recovers.
    NotAccepting,
    /// This node is the reason.
    Here,
    /// Anything else that PostgreSQL says.
    Answered,
}

impl Server {
    /// As people know it.
    pub(super) fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} {}", self.at),
            None => self.at.to_string(),
        }
    }

    /// Its name, else its address.
    pub(super) fn short(&self) -> String {
        self.name.as_ref().map_or_else(|| self.at.ip().to_string(), ToString::to_string)
    }
}
