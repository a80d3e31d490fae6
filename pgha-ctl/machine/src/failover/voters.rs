//! Voters: the standbys whose acknowledgement a commit waits for, and whose silence proves that none can be
//! acknowledged any more.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{NodeName, Position};

/// One value of `synchronous_standby_names`: `ANY k (...)`, or `FIRST k (...)` with the nodes in any order.
/// Either way some `k` of them have flushed what is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "WrittenSet")]
pub struct VoterSet {
    /// The standbys.
    pub nodes: BTreeSet<NodeName>,
    /// How many of them must have flushed a commit before it is acknowledged. 0: nobody is waited for.
    pub quorum: usize,
}

/// A set as it was written, by whomever.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSet {
    nodes: BTreeSet<NodeName>,
    quorum: usize,
}

impl TryFrom<WrittenSet> for VoterSet {
    type Error = String;

    fn try_from(WrittenSet { nodes, quorum }: WrittenSet) -> Result<Self, String> {
        let of = nodes.len();
        if quorum > of {
            return Err(format!("a quorum of {quorum} among {of} voters"));
        }
        Ok(Self { nodes, quorum })
    }
}

/// A list that is never empty.
pub(super) fn at_least_one<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(from)?;
    if list.is_empty() { Err(D::Error::custom("an empty list")) } else { Ok(list) }
}

impl VoterSet {
    /// Nobody is waited for.
    #[must_use]
    pub const fn empty() -> Self {
        Self { nodes: BTreeSet::new(), quorum: 0 }
    }

    /// Waits for `quorum` of `nodes`, or for as many as there are.
    #[must_use]
    pub fn of(nodes: BTreeSet<NodeName>, quorum: usize) -> Self {
        let quorum = quorum.min(nodes.len());
        Self { nodes, quorum }
    }

    /// Whether commits are acknowledged without waiting for anybody.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.quorum == 0
    }

    /// Whether these have flushed enough to acknowledge.
    #[must_use]
    pub fn acknowledged_by(&self, flushed: impl Fn(&NodeName) -> bool) -> bool {
        self.nodes.iter().filter(|node| flushed(node)).count() >= self.quorum
    }

    /// Whether every quorum contains one of those who are `frozen`: of `n` nodes and a quorum of `k`, that
    /// takes `n - k + 1`.
    #[must_use]
    pub fn blocked_by(&self, frozen: impl Fn(&NodeName) -> bool) -> bool {
        let needed = self.nodes.len() - self.quorum + 1;
        self.nodes.iter().filter(|node| frozen(node)).count() >= needed
    }
}

/// The voter sets of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voters {
    /// The set that is in use and, while it is changed, those that PostgreSQL may be using by now, in the
    /// order in which they were announced. Never none.
    #[serde(deserialize_with = "at_least_one")]
    pub sets: Vec<VoterSet>,
    /// Everything that was acknowledged before the first set alone was in use lies before this. A node that
    /// does not reach it is no candidate.
    pub floor: Position,
}

impl Voters {
    /// The set that PostgreSQL shall be using.
    ///
    /// # Panics
    /// Never: there is always one.
    #[must_use]
    pub fn wanted(&self) -> &VoterSet {
        self.sets.last().expect("there is always a voter set")
    }

    /// Whether PostgreSQL may be using none but this.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.sets.len() == 1
    }

    /// Whether a commit may be acknowledged that only the primary has.
    #[must_use]
    pub fn may_acknowledge_alone(&self) -> bool {
        self.sets.iter().any(VoterSet::is_open)
    }

    /// Whether those who are `frozen` stop every quorum that may be in use. Never, where a commit may be
    /// acknowledged without a voter.
    #[must_use]
    pub fn blocked_by(&self, frozen: impl Fn(&NodeName) -> bool) -> bool {
        !self.may_acknowledge_alone() && self.sets.iter().all(|set| set.blocked_by(&frozen))
    }
}
