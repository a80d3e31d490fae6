//! What comes in and what comes out: plain data.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::member::{Down, Finding};
use crate::{Lsn, Neighbour, Weight};

/// `sync_state` of `pg_stat_replication` (PostgreSQL documentation, "Monitoring statistics").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Asynchronous.
    Async,
    /// Asynchronous, would become synchronous when another fails.
    Potential,
    /// Synchronous.
    Sync,
    /// Candidate of a quorum.
    Quorum,
}

/// A streaming walsender of the primary, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walsender {
    /// The standby's address.
    pub address: IpAddr,
    /// Its part in synchronous commit.
    pub sync_state: SyncState,
}

/// One answer of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAnswer {
    /// Where it is.
    pub host: IpAddr,
    /// End of its WAL.
    pub lsn: Option<Lsn>,
    /// Its streaming walsenders; several may belong to one address.
    pub walsenders: Vec<Walsender>,
}

/// One server as one service sees it: where checks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The server.
    pub address: IpAddr,
    /// The service's port.
    pub port: u16,
}

/// What happened in the world.
#[derive(Clone, Debug)]
pub enum Event {
    /// The primary answered.
    Primary(PrimaryAnswer),
    /// The primary could not be asked, or said nothing of use.
    PrimaryLost,
    /// A check ended.
    Checked(Target, Finding),
    /// The session kept open to a server ended.
    SessionEnded(Target),
    /// The kernel's neighbour table says this of an address on one of the director's links.
    Neighbour(IpAddr, Option<Neighbour>),
    /// The operator wrote a new configuration.
    Configured(Config),
    /// The operator steers one server of one service.
    Steered {
        /// VIP and port of the service.
        service: (IpAddr, u16),
        /// The server.
        address: IpAddr,
        /// What to do.
        order: Order,
    },
}

/// What an operator may order for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// This weight, or the configuration's again.
    Weight(Option<Weight>),
    /// No new connections.
    Drain,
    /// New connections again.
    Undrain,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Check this server regularly and keep a session to it open.
    Watch(Target),
    /// Stop that.
    Unwatch(Target),
    /// Check it now.
    CheckNow(Target),
    /// Learn the MAC address of this neighbour, and follow it.
    Resolve(IpAddr),
    /// Make the data plane equal to [`super::Balancer::plan`].
    Program,
    /// Tell people.
    Tell(News),
}

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The primary can be asked, with so many streaming walsenders.
    PrimaryAnswers(usize),
    /// The primary cannot be asked; the readers stay as they are.
    PrimaryLost,
    /// A server became a member of a service.
    Joined(Target),
    /// A server is no member any more.
    Left(Target),
    /// A server gets new connections again, or for the first time.
    Up(Target),
    /// A server gets no new connections, for this reason.
    Down(Target, Down),
    /// A server is reached elsewhere now.
    Moved(IpAddr, Neighbour),
    /// No id is left for a server: it gets no traffic.
    Full(Target),
}
