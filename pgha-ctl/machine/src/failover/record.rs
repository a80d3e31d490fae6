//! The one record that lease, epoch, freeze, voter sets, nomination and members stand in. Whatever is
//! granted expects exactly the state of it from which the reason was read, and any other write voids it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::voters::{Voters, at_least_one};
use crate::{Epoch, Lsn, NodeName, Position, Timeline, Wal};

/// What the cluster agrees on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The system identifier of its data directories, where that was told when it was founded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<u64>,
    /// The managed nodes.
    pub members: BTreeMap<NodeName, Member>,
    /// What a commit shall wait for.
    pub mode: Mode,
    /// How long things last.
    pub pace: Pace,
    /// The term of the primary.
    pub epoch: Epoch,
    /// Who may accept writes in it.
    pub lease: Lease,
    /// Whose acknowledgement a commit waits for, in this epoch.
    pub voters: Voters,
    /// The primary is suspected: voters stop, and its voter sets stay as they are.
    pub freeze: Option<Freeze>,
    /// How many freezes there were: the number of the last one.
    pub freezes: u64,
    /// Who may take the next epoch.
    pub nomination: Option<Nomination>,
    /// Why a quorum of frozen voters would prove nothing, where that is so.
    pub doubts: BTreeSet<Doubt>,
    /// The last terms, the oldest first, each beginning where the one before was left. Never none.
    #[serde(deserialize_with = "at_least_one")]
    pub terms: Vec<Term>,
}

/// A managed node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The holder of the lease has confirmed that it asks this node too when the store is gone. Until then
    /// it is never nominated (S8).
    pub confirmed: bool,
    /// An operator wants it never to be the primary.
    pub nofailover: bool,
    /// Of several that are equally far, the one with the greatest is chosen.
    pub priority: i32,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// For nobody. A candidate may lack this many bytes of what the primary had, as far as is known.
    Async {
        /// Bytes.
        max_lag: u64,
    },
    /// For a quorum of standbys, or for nobody while there are not enough: that is recorded.
    Sync {
        /// How many.
        quorum: usize,
        /// In a time without a quorum: as for `async`.
        max_lag: u64,
    },
    /// For a quorum of standbys, always.
    Strict {
        /// How many.
        quorum: usize,
    },
}

impl Mode {
    /// How many standbys a commit shall wait for.
    #[must_use]
    pub const fn quorum(self) -> usize {
        match self {
            Self::Async { .. } => 0,
            Self::Sync { quorum, .. } | Self::Strict { quorum } => quorum,
        }
    }

    /// How many bytes of what may have been acknowledged by the primary alone a candidate may lack.
    #[must_use]
    pub const fn max_lag(self) -> u64 {
        match self {
            Self::Async { max_lag } | Self::Sync { max_lag, .. } => max_lag,
            Self::Strict { .. } => 0,
        }
    }
}

/// Who may accept writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lease {
    /// That node, until its deadline.
    Held {
        /// Who.
        by: NodeName,
        /// Which process of it: a request of a former one may be under way still.
        run: u64,
        /// A number that grows with each write of the holder.
        renewal: u64,
        /// How far its write-ahead log was when it renewed last.
        flushed: Lsn,
    },
    /// Nobody: the node that held it has closed its gate for good and ended every process of PostgreSQL.
    Released {
        /// Who held it.
        by: NodeName,
        /// As with [`Lease::Held`].
        renewal: u64,
        /// How far its write-ahead log was when it renewed last.
        flushed: Lsn,
    },
}

impl Lease {
    /// Who holds it, or held it last.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        match self {
            Self::Held { by, .. } | Self::Released { by, .. } => by,
        }
    }

    /// How often its holder has written.
    #[must_use]
    pub const fn renewal(&self) -> u64 {
        match self {
            Self::Held { renewal, .. } | Self::Released { renewal, .. } => *renewal,
        }
    }

    /// How far the write-ahead log of that node was when it renewed last.
    #[must_use]
    pub const fn flushed(&self) -> Lsn {
        match self {
            Self::Held { flushed, .. } | Self::Released { flushed, .. } => *flushed,
        }
    }
}

/// The primary is suspected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Which freeze it is, of all that ever were: what a frozen voter names.
    pub number: u64,
    /// Who suspects.
    pub by: NodeName,
    /// Why.
    pub reason: Suspicion,
    /// What an operator wants, where one has ordered another primary.
    #[serde(default)]
    pub ordered: Option<Ordered>,
}

/// An operator's order that another node be the primary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// Who shall be.
    pub takeover: Takeover,
    /// Whose word it is.
    pub by: String,
    /// When it was given, in milliseconds since the Unix epoch by the clock of whoever took it. Nothing is
    /// decided by it.
    pub at: u64,
}

/// Who shall be the primary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// The best of the others.
    Best,
    /// That one, as long as it is there and can have all that was acknowledged.
    To(NodeName),
    /// That one, also where nobody knows whether it has all that was acknowledged: S4 counts no more. That the
    /// primary before can acknowledge nothing more has to be proven all the same (S2).
    Force(NodeName),
}

impl Takeover {
    /// Who is named.
    #[must_use]
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Best => None,
            Self::To(node) | Self::Force(node) => Some(node),
        }
    }
}

/// Why a primary is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    /// It says so itself: PostgreSQL ended, its disk does not write, the link of its address is down.
    Reported,
    /// Two others hear nothing of it, and it renews no more.
    Silent,
    /// It renews, but no controller and less than half of the members hear of it.
    CutOff,
    /// It has not renewed for as long as a proof takes.
    Expired,
    /// It gave the lease back.
    Released,
    /// It is none: an operator wants another primary.
    Ordered,
}

/// Who may take the next epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nomination {
    /// Who.
    pub node: NodeName,
    /// Who nominated it.
    pub by: NodeName,
    /// Why the epoch before can acknowledge nothing more.
    pub proof: Proof,
    /// How far its log was found to be: it was chosen for that.
    pub end: Position,
    /// The others whose end of the log was read: the voters it begins with.
    pub voters: Vec<NodeName>,
    /// It need not have all that was acknowledged: only by an operator's [`Takeover::Force`].
    #[serde(default)]
    pub forced: bool,
}

/// Why a quorum of frozen voters would prove nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Somebody else has streamed under the name of that voter: what was acknowledged need not be on it.
    Impersonated(NodeName),
    /// `synchronous_commit` is lowered for that role or database: it waits for nobody. Nothing of it counts as
    /// acknowledged, but it goes on while voters are frozen.
    Lowered(String),
}

/// Evidence that the holder of an epoch can acknowledge nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Its agent closed its gate for good, ended every process, and wrote so.
    Released,
    /// Enough voters of every set are frozen: no commit can reach a quorum.
    Quorum,
    /// A fence device has turned the node off and confirms it.
    Power,
    /// Longer than the lease there was no renewal, by the observer's clock.
    Lease,
}

/// A term of a primary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Its epoch.
    pub epoch: Epoch,
    /// The primary.
    pub node: NodeName,
    /// The timeline that it writes and nobody else ever did: the record gives it, because two nodes that
    /// know nothing of each other would both choose the next one.
    pub timeline: Timeline,
    /// Where the log of the term before ends for all times. Until the node was promoted: where its log ended
    /// when it took the epoch, which may be a part of an entry further.
    pub fork: Position,
    /// The timeline exists: others may follow.
    pub promoted: bool,
    /// The last times in which `sync` waited for nobody, the oldest first.
    pub degraded: Vec<Degraded>,
    /// How it came to it; `None` for the first.
    #[serde(default)]
    pub cause: Option<Cause>,
}

/// How a term came to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// Why the primary before was suspected.
    pub reason: Suspicion,
    /// Why it could acknowledge nothing more.
    pub proof: Proof,
    /// The order of an operator, where there was one.
    pub ordered: Option<Ordered>,
    /// What was acknowledged before may be lost: the order overrode S4.
    pub forced: bool,
}

impl Term {
    /// Whether what was acknowledged before it may be lost, by the word of an operator.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.forced)
    }
}

/// A time in which a commit waited for nobody though the mode says that it shall, told by the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Degraded {
    /// What was committed before waited for a quorum.
    pub from: Lsn,
    /// From there on commits wait for a quorum again, and what lies before is on one. `None`: it lasts, or the
    /// term ended in it.
    pub until: Option<Lsn>,
}

/// How far a record has come, by what it says itself. No write lowers any of it: a store that was put back from
/// a backup is known by it, whatever its revisions say by now (S5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The epoch.
    pub epoch: Epoch,
    /// How often the holder of that epoch has written.
    pub renewal: u64,
    /// How many freezes there were.
    pub freezes: u64,
}

impl Progress {
    /// Whether a record that has come this far is not older than this.
    #[must_use]
    pub fn admits(self, other: Self) -> bool {
        (other.epoch, other.renewal) >= (self.epoch, self.renewal) && other.freezes >= self.freezes
    }
}

/// How a node's log is related to that of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kinship {
    /// A beginning of it, or all of it.
    Follows,
    /// It has something that the cluster's does not have.
    Diverged,
}

impl Record {
    /// Who may accept writes, where somebody may.
    #[must_use]
    pub const fn holder(&self) -> Option<&NodeName> {
        match &self.lease {
            Lease::Held { by, .. } => Some(by),
            Lease::Released { .. } => None,
        }
    }

    /// What an operator has ordered, while it is carried out.
    #[must_use]
    pub fn ordered(&self) -> Option<&Ordered> {
        self.freeze.as_ref().and_then(|freeze| freeze.ordered.as_ref())
    }

    /// The node that an operator has ordered whatever it may lack.
    #[must_use]
    pub fn forced(&self) -> Option<&NodeName> {
        match &self.ordered()?.takeover {
            Takeover::Force(node) => Some(node),
            Takeover::Best | Takeover::To(_) => None,
        }
    }

    /// How far it has come.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        Progress { epoch: self.epoch, renewal: self.lease.renewal(), freezes: self.freezes }
    }

    /// Whether a node is a member, or a voter that has left: that one stops with the others, and what it has
    /// counts, until no commit can wait for it any more.
    #[must_use]
    pub fn concerns(&self, node: &NodeName) -> bool {
        let votes = || self.voters.sets.iter().any(|set| set.nodes.contains(node));
        self.members.contains_key(node) || votes()
    }

    /// The term that lasts.
    ///
    /// # Panics
    /// Never: a record begins with one.
    #[must_use]
    pub fn term(&self) -> &Term {
        self.terms.last().expect("a record has a term")
    }

    /// The timelines that lead to the present one, the present one first, each with where it was left.
    fn lineage(&self) -> impl Iterator<Item = (Timeline, Option<Lsn>)> {
        let mut next = Some((self.term(), None));
        std::iter::from_fn(move || {
            let (term, left) = next?;
            let ancestor =
                |before: &&Term| before.epoch < term.epoch && before.timeline == term.fork.timeline;
            next = self.terms.iter().rfind(ancestor).map(|before| (before, Some(term.fork.lsn)));
            Some((term.timeline, left))
        })
    }

    /// How a log is related to that of the cluster (S6).
    #[must_use]
    pub fn kinship(&self, wal: &Wal) -> Kinship {
        let follows = |timeline: Timeline| {
            let mut lineage = self.lineage();
            let known = lineage.find(|(of_cluster, _)| *of_cluster == timeline);
            let within =
                |left: Option<Lsn>| left.is_none_or(|left| wal.extent(timeline) <= Some(left));
            known.is_some_and(|(_, left)| within(left))
        };
        // What came before the first term that is remembered belongs to its timeline.
        let Some((oldest, _)) = self.lineage().last() else { return Kinship::Diverged };
        let mut since = wal.timelines().skip_while(|timeline| *timeline != oldest).peekable();
        let related = since.peek().is_some() && since.all(follows);
        if related { Kinship::Follows } else { Kinship::Diverged }
    }
}
