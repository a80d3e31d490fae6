use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgha_machine::NodeName;

/// Where the XDP program runs, and the size of its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Director {
    pub(super) interfaces: Vec<String>,
    pub(super) vlan: Vlan,
    pub(super) bpffs: PathBuf,
    pub(super) control: PathBuf,
    pub(super) log_packets: bool,
    pub(super) flows: u32,
    pub(super) flows_ipv6: u32,
    pub(super) pending_flows: u32,
    pub(super) pending_flows_ipv6: u32,
    pub(super) peers: Vec<Peer>,
}

impl Director {
    /// The interfaces that receive the clients' traffic, at least one; their order gives them their
    /// numbers.
    #[must_use]
    pub fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    /// What happens to a frame to a VIP that has one 802.1Q tag.
    #[must_use]
    pub const fn vlan(&self) -> Vlan {
        self.vlan
    }

    /// The mount point of the BPF file system.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The controller's Unix socket.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Whether the verdict of each packet is logged.
    #[must_use]
    pub const fn log_packets(&self) -> bool {
        self.log_packets
    }

    /// Entries of the table of established IPv4 flows.
    #[must_use]
    pub const fn flows(&self) -> u32 {
        self.flows
    }

    /// Entries of the table of established IPv6 flows.
    #[must_use]
    pub const fn flows_ipv6(&self) -> u32 {
        self.flows_ipv6
    }

    /// Entries of the table of pending IPv4 flows.
    #[must_use]
    pub const fn pending_flows(&self) -> u32 {
        self.pending_flows
    }

    /// Entries of the table of pending IPv6 flows.
    #[must_use]
    pub const fn pending_flows_ipv6(&self) -> u32 {
        self.pending_flows_ipv6
    }

    /// The other directors.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }
}

/// What happens to a frame to a VIP that has one 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vlan {
    /// It is passed to the kernel.
    Pass,
    /// It is balanced, and keeps its tag.
    Forward,
}

impl Vlan {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Forward => "forward",
        }
    }
}

/// Another director of the same VIPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub(super) name: NodeName,
    pub(super) addresses: Vec<IpAddr>,
}

impl Peer {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// Its own addresses, at least one: by these its MAC addresses are found.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

/// Where the primary may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    pub(super) hosts: Vec<SocketAddr>,
}

impl Primary {
    /// Where to ask, in the order of the file; at least one, each once, no port 0.
    #[must_use]
    pub fn hosts(&self) -> &[SocketAddr] {
        &self.hosts
    }
}

/// When a server counts as alive or dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthTimings {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: u8,
    pub(super) fall: u8,
}

impl HealthTimings {
    /// Time between two checks of one server.
    #[must_use]
    pub const fn interval(self) -> Duration {
        self.interval
    }

    /// A check without an answer for this long has failed.
    #[must_use]
    pub const fn timeout(self) -> Duration {
        self.timeout
    }

    /// Consecutive successes that make a dead server alive, at least 1.
    #[must_use]
    pub const fn rise(self) -> u8 {
        self.rise
    }

    /// Consecutive failures that make a server dead, at least 2.
    #[must_use]
    pub const fn fall(self) -> u8 {
        self.fall
    }
}

/// Where the API listens over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) tls: PathBuf,
}

impl Api {
    /// Addresses and ports; none where it does not.
    #[must_use]
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The directory of its credentials.
    #[must_use]
    pub fn tls(&self) -> &Path {
        &self.tls
    }
}
