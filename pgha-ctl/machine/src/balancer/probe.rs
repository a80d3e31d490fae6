//! The path through a VIP to one server: whether a client that is sent there finds PostgreSQL.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Neighbour;

/// How the path through the VIP is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Not at all.
    Off,
    /// By a SYN, and a RST on its answer.
    Syn,
    /// By a connection and a startup message on it, as far as PostgreSQL's answer.
    Startup,
}

impl Probe {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Syn => "syn",
            Self::Startup => "startup",
        }
    }
}

/// One server behind one VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Where clients connect.
    pub vip: IpAddr,
    /// The port there.
    pub port: u16,
    /// The server's own address.
    pub address: IpAddr,
}

/// How a probe's frames get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// To its MAC address.
    Neighbour(Neighbour),
    /// It is this very node.
    Local,
}

/// What a probe found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFinding {
    /// Somebody listens on the VIP's port there.
    Open,
    /// RST: nobody listens on the VIP's port there.
    Refused,
    /// PostgreSQL listens there but takes no session, and says why (SQLSTATE 57P03, say).
    NotAccepting(String),
    /// No answer: the VIP is missing there, or the frames do not arrive.
    Silent,
    /// It could not be carried out for a reason that lies here, which is told. Says nothing of the server.
    Undecided(String),
}

/// What is known of a server's path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VipStanding {
    /// Its service does not probe.
    #[default]
    Off,
    /// No probe has ended yet.
    Unchecked,
    /// A probe came through, and none failed for sure since.
    Proven,
    /// So many probes in a row as `fall` says got no answer while the server itself answers.
    Silent,
    /// Nobody listens on the VIP's port.
    Refused,
    /// PostgreSQL takes no sessions on the VIP.
    NotAccepting,
    /// Probes cannot be carried out.
    Undecided,
}
