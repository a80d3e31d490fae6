//! Managed nodes: what the record says of them, as far as it concerns who serves whom.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Balancer;
use super::config::{Config, Discovery};
use super::event::News;
use super::member::{Finding, Member};
use super::probe::Path;
use crate::failover::record::{Lease, Record};
use crate::{Epoch, NodeName, Position, Timeline};

#[cfg(test)]
mod tests;

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The term of the primary.
    pub epoch: Epoch,
    /// How many freezes there were.
    pub freezes: u64,
    /// The managed nodes.
    pub members: BTreeSet<NodeName>,
    /// Whose term it is.
    pub primary: NodeName,
    /// It is out of recovery, and nothing proves that its term is over: writers go there.
    pub writes: bool,
    /// Who may take the next term.
    pub nominee: Option<NodeName>,
    /// The lease is renewed, and nobody suspects anything.
    pub steady: bool,
    /// Where the timelines of former terms were left for all times.
    pub forks: Vec<Position>,
}

impl Cluster {
    /// That of a record. `current`: the lease was renewed not longer ago than it lasts.
    #[must_use]
    pub fn of(record: &Record, current: bool) -> Self {
        let term = record.term();
        let held = matches!(record.lease, Lease::Held { .. });
        let nominee = record.nomination.as_ref().map(|nomination| nomination.node.clone());
        Self {
            epoch: record.epoch,
            freezes: record.freezes,
            members: record.members.keys().cloned().collect(),
            primary: term.node.clone(),
            writes: term.promoted && held && nominee.is_none(),
            steady: current && held && record.freeze.is_none() && nominee.is_none(),
            nominee,
            // Until the node is promoted, the fork may be a part of an entry further.
            forks: record.terms.iter().skip(1).filter(|of| of.promoted).map(|of| of.fork).collect(),
        }
    }

    /// Whether this is older than what was told before (S5).
    fn is_behind(&self, known: &Self) -> bool {
        self.epoch < known.epoch || (self.epoch == known.epoch && self.freezes < known.freezes)
    }
}

/// The same by the addresses of the nodes.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) epoch: Epoch,
    members: BTreeSet<IpAddr>,
    primary: Option<IpAddr>,
    writes: bool,
    nominee: Option<IpAddr>,
    pub(super) steady: bool,
    forks: Vec<Position>,
}

impl Placed {
    pub(super) fn of(cluster: &Cluster, config: &Config) -> Self {
        let address = |name: &NodeName| {
            let node = config.nodes.iter().find(|node| node.name == *name);
            node.map(|node| node.address)
        };
        Self {
            epoch: cluster.epoch,
            members: cluster.members.iter().filter_map(address).collect(),
            primary: address(&cluster.primary),
            writes: cluster.writes,
            nominee: cluster.nominee.as_ref().and_then(address),
            steady: cluster.steady,
            forks: cluster.forks.clone(),
        }
    }

    /// Whether a node is managed.
    pub(super) fn manages(&self, address: IpAddr) -> bool {
        self.members.contains(&address)
    }

    /// Whether writers go to this node.
    pub(super) fn is_written_to(&self, address: IpAddr) -> bool {
        self.writes && self.primary == Some(address)
    }

    /// Whether it is the primary, on its way to be, or was the last one.
    pub(super) fn leads(&self, address: IpAddr) -> bool {
        self.primary == Some(address)
    }

    /// Whether it may become the primary at any moment.
    pub(super) fn nominates(&self, address: IpAddr) -> bool {
        self.nominee == Some(address)
    }

    /// Whether a standby has what its cluster's log has not: it is on a timeline that was left before the end of its
    /// own log. While nothing disturbs the primary, a standby that follows tells the timeline that it follows; `newest`
    /// is the newest that it ever told, for one that is restarted tells an older one for a while.
    pub(super) fn left_behind(&self, member: &Member) -> bool {
        let Some(Finding::Standby(standby)) = &member.finding else { return false };
        let (Some(timeline), Some(end)) =
            (standby.timeline, standby.replayed.max(standby.received))
        else {
            return false;
        };
        let beyond = |fork: &Position| fork.timeline == timeline && end > fork.lsn;
        let newer = |newest: Timeline| newest > timeline;
        self.steady
            && !standby.receiving
            && !member.newest.is_some_and(newer)
            && self.forks.iter().any(beyond)
    }
}

impl Balancer {
    /// Takes in what the record says. An older one is refused, whoever told it.
    pub(super) fn cluster_told(&mut self, cluster: Cluster) {
        if self.cluster.as_ref().is_some_and(|(known, _)| cluster.is_behind(known)) {
            return;
        }
        let placed = Placed::of(&cluster, &self.config);
        self.cluster = Some((cluster, placed));
    }

    /// The nodes' addresses may be others.
    pub(super) fn place_cluster(&mut self) {
        if let Some((cluster, placed)) = &mut self.cluster {
            *placed = Placed::of(cluster, &self.config);
        }
    }

    /// Whether what a primary says of who streams from it counts now.
    pub(super) fn counts_walsenders(&self, discovery: Discovery) -> bool {
        match discovery {
            Discovery::Agents => self.cluster.as_ref().is_some_and(|(_, placed)| placed.steady),
            Discovery::Walsenders | Discovery::Direct | Discovery::Both | Discovery::Writer => true,
        }
    }
}

/// What people are told when writers are sent elsewhere.
pub(super) fn moved(path: Path, epoch: Option<Epoch>, before: bool, after: bool) -> Option<News> {
    match (before, after) {
        (false, true) => Some(News::WritersSent(path, epoch)),
        (true, false) => Some(News::WritersLost(path, epoch)),
        (true, true) | (false, false) => None,
    }
}
