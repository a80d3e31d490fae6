use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgha_machine::NodeName;

/// Where the XDP program runs, and the size of its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Director {
    pub(super) interface: String,
    pub(super) bpffs: PathBuf,
    pub(super) control: PathBuf,
    pub(super) log_packets: bool,
    pub(super) flows: u32,
    pub(super) pending_flows: u32,
    pub(super) peers: Vec<Peer>,
}

impl Director {
    /// The interface that receives the clients' traffic.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
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

    /// Entries of the table of established flows.
    #[must_use]
    pub const fn flows(&self) -> u32 {
        self.flows
    }

    /// Entries of the table of pending flows.
    #[must_use]
    pub const fn pending_flows(&self) -> u32 {
        self.pending_flows
    }

    /// The other directors.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }
}

/// Another director of the same VIPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub(super) name: NodeName,
    pub(super) address: Ipv4Addr,
}

impl Peer {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// Its own address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }
}

/// Where the primary may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    pub(super) hosts: Vec<Ipv4Addr>,
    pub(super) port: u16,
}

impl Primary {
    /// Addresses in the order to try them; at least one.
    #[must_use]
    pub fn hosts(&self) -> &[Ipv4Addr] {
        &self.hosts
    }

    /// PostgreSQL's port there, never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
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

    /// Consecutive failures that make a server dead, at least 1.
    #[must_use]
    pub const fn fall(self) -> u8 {
        self.fall
    }
}
