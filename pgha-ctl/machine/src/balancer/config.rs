//! What an operator wants of the balancer.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
pub use pgha_common::maps::Scheduler;
use serde::{Deserialize, Serialize};

use super::probe::Probe;
use crate::{NodeName, Weight};

/// Everything the decisions depend on that an operator writes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The virtual services; no two with the same VIP and port.
    pub services: Vec<Service>,
    /// The nodes with a name.
    pub nodes: Vec<Node>,
    /// How many good checks in a row bring a real server in; at least 1.
    pub rise: u8,
    /// How many failed checks in a row take it out; at least 2, because a silence counts only when
    /// others answered meanwhile, and those that did may have done so before this node lost its link.
    pub fall: u8,
    /// The addresses of this very node.
    pub local: BTreeSet<IpAddr>,
    /// The nodes that agents manage, by name.
    pub managed: BTreeSet<NodeName>,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What operators call it.
    pub name: NodeName,
    /// Where clients connect.
    pub vip: IpAddr,
    /// TCP port of the VIP, and so of every real server: direct server return changes no port.
    pub port: u16,
    /// How real servers are picked.
    pub scheduler: Scheduler,
    /// How they are found.
    pub discovery: Discovery,
    /// The weight of a server to which nobody gave another.
    pub default_weight: Weight,
    /// From where clients may connect; empty says from everywhere.
    pub allowed_clients: Vec<IpNet>,
    /// How many new connections one source may open; `None` says any number.
    pub syn_limit: Option<SynLimit>,
    /// How far a server may lag.
    pub lag: LagLimits,
    /// What moves the weights by itself.
    pub auto_weight: AutoWeight,
    /// For how long a server that joins has less than its weight; nothing says that it has all of it
    /// at once.
    pub slow_start: Duration,
    /// How the path through the VIP is probed.
    pub probe: Probe,
    /// Whether the primary serves when no standby is left.
    pub fallback_to_primary: bool,
}

/// How far a server may lag behind the primary and still get new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LagLimits {
    /// In bytes of WAL that it has not replayed.
    pub bytes: Option<Limit<u64>>,
    /// In the age of what its readers see.
    pub time: Option<Limit<Duration>>,
}

/// A limit with two edges, so that a value that hovers about it does not move clients to and fro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// Beyond this a server drains.
    pub drain: T,
    /// It gets new connections again once it is at this or below; never more than `drain`.
    pub back: T,
}

/// What moves the weights by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AutoWeight {
    /// The lag, in proportion to the limits it has.
    pub lag: bool,
    /// Connections in use, in proportion to `max_connections`.
    pub connections: bool,
}

/// A token bucket for the SYNs of one source: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynLimit {
    /// SYNs a second that each source may send for long.
    pub rate: NonZeroU32,
    /// SYNs that it may send at once.
    pub burst: NonZeroU32,
}

/// How the real servers of a service are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Who streams from the primary is a member.
    Walsenders,
    /// The listed nodes are the members.
    Direct,
    /// Members are the listed nodes and whoever streams; by the primary's last word, only those that
    /// stream get new connections. A listed one of which it has not spoken yet gets them too.
    Both,
    /// The managed nodes are the members, as with [`Self::Both`]. The record says who is about to be the primary, and
    /// when the primary's word counts.
    Agents,
    /// The managed nodes are the members, and the primary by the record is the only one that serves: writers.
    Writer,
}

/// A node with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, also in `application_name`.
    pub name: NodeName,
    /// Its address.
    pub address: IpAddr,
    /// Its weight in every service, where it has one of its own.
    pub weight: Option<Weight>,
}

impl Config {
    /// The node with this address, if it has a name.
    #[must_use]
    pub fn node_at(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.iter().find(|node| node.address == address)
    }

    /// The listed nodes that are members of a service that finds its servers in this way.
    pub(super) fn listed(&self, discovery: Discovery) -> impl Iterator<Item = IpAddr> {
        let fits = move |node: &&Node| {
            discovery.lists() && (!discovery.manages() || self.managed.contains(&node.name))
        };
        self.nodes.iter().filter(fits).map(|node| node.address)
    }

    /// Who a walsender belongs to: the node its `application_name` names, else the address it is,
    /// else where it connects from.
    ///
    /// # Errors
    /// Why none of these leads to a server.
    pub fn address_of(
        &self,
        application_name: &str,
        client: Option<IpAddr>,
    ) -> Result<IpAddr, Unplaced> {
        let named = self.nodes.iter().find(|node| node.name.as_str() == application_name);
        let address = named
            .map(|node| node.address)
            .or_else(|| application_name.parse().ok().filter(leads_somewhere))
            .or(client.filter(leads_somewhere));
        let nowhere = if client.is_some() { Unplaced::LinkLocal } else { Unplaced::UnixSocket };
        address.map(|address| address.to_canonical()).ok_or(nowhere)
    }
}

/// Why a walsender leads to no server, or not to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unplaced {
    /// It is connected through the primary's Unix socket.
    UnixSocket,
    /// It is connected from a link-local address, which leads nowhere without a link.
    LinkLocal,
    /// Another standby streams under that name from the address that it stands for.
    SharedName,
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnixSocket => {
                "that is neither the name of a node nor an address, and it connects through a Unix socket"
            }
            Self::LinkLocal => {
                "that is neither the name of a node nor an address, and it connects from a link-local one"
            }
            Self::SharedName => "another standby streams under that name, and is taken for it",
        })
    }
}

fn leads_somewhere(address: &IpAddr) -> bool {
    !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

impl Service {
    /// The scheduler's name in the configuration.
    #[must_use]
    pub const fn scheduler_name(&self) -> &'static str {
        match self.scheduler {
            Scheduler::Maglev => "maglev",
            Scheduler::RoundRobin => "rr",
            Scheduler::Source => "source",
            Scheduler::Least => "least",
        }
    }
}

impl Discovery {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Walsenders => "walsenders",
            Self::Direct => "direct",
            Self::Both => "both",
            Self::Agents => "agents",
            Self::Writer => "writer",
        }
    }

    /// Whether listed nodes are members.
    #[must_use]
    pub const fn lists(self) -> bool {
        match self {
            Self::Walsenders => false,
            Self::Direct | Self::Both | Self::Agents | Self::Writer => true,
        }
    }

    /// Whether only the nodes that agents manage are.
    #[must_use]
    pub const fn manages(self) -> bool {
        matches!(self, Self::Agents | Self::Writer)
    }

    /// Whether whoever streams is a member.
    #[must_use]
    pub const fn welcomes(self) -> bool {
        matches!(self, Self::Walsenders | Self::Both)
    }

    /// Whether the primary is asked who streams from it.
    #[must_use]
    pub const fn asks_primary(self) -> bool {
        matches!(self, Self::Walsenders | Self::Both | Self::Agents)
    }
}
