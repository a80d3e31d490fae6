//! What comes in and what comes out: plain data.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cluster::Cluster;
use super::config::Config;
use super::member::{Down, Finding};
use super::orders::Orders;
use super::probe::{Path, ProbeFinding, Via};
use super::withheld::Withheld;
use crate::{Epoch, Lsn, Mac, Neighbour, Timeline};

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

/// A streaming walsender of the primary or of a standby, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walsender {
    /// The standby's address.
    pub address: IpAddr,
    /// Its part in synchronous commit.
    pub sync_state: SyncState,
    /// `replay_lag`: how long the last commits took to be replayed there. `None` while nothing is
    /// written.
    pub replay_lag: Option<Duration>,
    /// `replay_lsn`: end of the WAL it has replayed.
    pub replayed: Option<Lsn>,
}

/// One answer of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAnswer {
    /// Where it is.
    pub host: IpAddr,
    /// The timeline it writes.
    pub timeline: Option<Timeline>,
    /// Its system identifier.
    pub system: Option<u64>,
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
    /// Another primary is asked from here on, or none: what the one before said holds no more.
    PrimaryForgotten,
    /// Several hosts say that they are the primary, and none by a newer timeline. Which of them to
    /// believe is not for the balancer to say: it changes nothing.
    SeveralPrimaries {
        /// What each of them said last.
        answers: Vec<PrimaryAnswer>,
        /// Which of them said it just now, if that is why this is told.
        answered: Option<IpAddr>,
    },
    /// A check ended.
    Checked(Target, Finding),
    /// The session kept open to a server ended.
    SessionEnded(Target),
    /// The kernel's neighbour table says this of an address on one of the director's links.
    Neighbour(IpAddr, Option<Neighbour>),
    /// The operator wrote a new configuration.
    Configured(Config),
    /// A probe through a VIP ended.
    Probed(Path, ProbeFinding),
    /// Somebody else answers ARP or neighbour solicitations for a VIP.
    VipAnswered {
        /// The VIP.
        vip: IpAddr,
        /// Who.
        mac: Mac,
    },
    /// What operators have set, all of it, as the store has it now.
    Ordered {
        /// That.
        orders: Orders,
        /// What the clock on the wall says: milliseconds since the Unix epoch.
        wall: u64,
    },
    /// What the record says of the managed nodes.
    Cluster(Cluster),
    /// The time of [`super::Balancer::poll_timeout`] has come.
    Tick,
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
    /// Probe this path regularly from now on, in this way; again when the way changes.
    Probe(Path, Via),
    /// Stop that.
    Unprobe(Path),
    /// Make the data plane equal to [`super::Balancer::plan`].
    Program,
    /// The same, but it may wait for a moment: servers get more, beside others that serve, and nobody gets less.
    ProgramSoon,
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
    /// A host says that it is the primary, and most of the standbys that answer belong to another cluster or
    /// have seen a later promotion: it is not believed.
    NotBelieved(PrimaryAnswer),
    /// Several hosts say that they are the primary; the readers stay as they are.
    SeveralPrimaries(Vec<IpAddr>),
    /// A server became a member of a service.
    Joined(Target),
    /// A server is no member any more.
    Left(Target),
    /// A server gets new connections again, or for the first time.
    Up(Target),
    /// A server gets no new connections, for this reason.
    Down(Target, Down),
    /// A server gets no new connections for a reason beyond its health.
    Withheld(Path, Withheld),
    /// That reason is gone.
    Mended(Path, Withheld),
    /// The primary gets new connections, because no standby is left.
    FallsBack(Path),
    /// It gets no more.
    FallsBackNoMore(Path),
    /// A server answers ARP or neighbour solicitations for the VIP: clients may reach it past the
    /// director.
    Leaks(Path, Mac),
    /// Probes through the VIP get no answer from this server, nor from any other of its service: it serves
    /// on, for the reason may lie on this director.
    Unheard(Path),
    /// A server is reached elsewhere now.
    Moved(IpAddr, Neighbour),
    /// Writers are sent to this server from now on, by the record of that epoch.
    WritersSent(Path, Option<Epoch>),
    /// Writers are sent there no more.
    WritersLost(Path, Option<Epoch>),
    /// No id is left for a server: it gets no traffic.
    Full(Target),
}
