//! What operators write to the record: who belongs to the cluster, and what it shall be like.

use std::collections::{BTreeMap, BTreeSet};

use super::refusal::{Next, Refusal};
use crate::failover::pace::Pace;
use crate::failover::record::{
    Freeze, Lease, Member, Mode, Ordered, Record, Suspicion, Takeover, Term,
};
use crate::failover::voters::{VoterSet, Voters};
use crate::{Epoch, NodeName, Wal};

impl Record {
    /// The first record: one primary, and other nodes that it has not confirmed yet. Before that nobody knows for
    /// whom its commits waited, so they count as having waited for nobody until a change of voters is settled.
    ///
    /// # Errors
    /// When there are fewer others than `strict` waits for.
    pub fn founded(
        node: &NodeName,
        wal: &Wal,
        others: &BTreeMap<NodeName, Member>,
        mode: Mode,
        pace: Pace,
    ) -> Next {
        let epoch = Epoch::new(1);
        let term = Term {
            epoch,
            node: node.clone(),
            timeline: wal.end.timeline,
            fork: wal.end,
            promoted: true,
            degraded: Vec::new(),
            cause: None,
        };
        let unconfirmed = |(name, member): (&NodeName, &Member)| {
            (name.clone(), Member { confirmed: false, ..member.clone() })
        };
        let member = Member { confirmed: true, nofailover: false, priority: 0 };
        let own = [(node.clone(), member)];
        let mut record = Self {
            system: None,
            members: others.iter().map(unconfirmed).chain(own).collect(),
            mode,
            pace,
            epoch,
            lease: Lease::Held { by: node.clone(), run: 0, renewal: 0, flushed: wal.end.lsn },
            voters: Voters { sets: vec![VoterSet::empty()], floor: wal.end },
            freeze: None,
            freezes: 0,
            nomination: None,
            doubts: BTreeSet::new(),
            terms: vec![term],
        };
        match mode {
            Mode::Async { .. } => {}
            Mode::Sync { .. } => record.degrade(),
            Mode::Strict { .. } => record.voters.sets.push(record.last_resort(node)?),
        }
        Ok(record)
    }

    /// A node is managed from now on. It is no candidate before the primary has confirmed it (S8).
    ///
    /// # Errors
    /// When it is already.
    pub fn join(&self, node: NodeName, member: &Member) -> Next {
        if self.members.contains_key(&node) {
            return Err(Refusal::Nothing);
        }
        let mut next = self.clone();
        next.members.insert(node, Member { confirmed: false, ..member.clone() });
        Ok(next)
    }

    /// A node is managed no more. Where it is a voter still, the primary changes its voters next.
    ///
    /// # Errors
    /// When it is none, it is the primary or may become it, a freeze has begun, or `strict` would wait for more
    /// nodes than there are.
    pub fn leave(&self, node: &NodeName) -> Next {
        self.not_frozen()?;
        if self.lease.node() == node {
            return Err(Refusal::InCharge(node.clone()));
        }
        let mut next = self.clone();
        next.members.remove(node).ok_or_else(|| Refusal::Stranger(node.clone()))?;
        next.last_resort(self.lease.node())?;
        Ok(next)
    }

    /// An operator says which nodes shall be chosen.
    ///
    /// # Errors
    /// When there is no such member, or that is so already.
    pub fn tag(&self, node: &NodeName, nofailover: bool, priority: i32) -> Next {
        let mut next = self.clone();
        let member = next.members.get_mut(node).ok_or_else(|| Refusal::Stranger(node.clone()))?;
        if (member.nofailover, member.priority) == (nofailover, priority) {
            return Err(Refusal::Nothing);
        }
        (member.nofailover, member.priority) = (nofailover, priority);
        Ok(next)
    }

    /// Another node shall be the primary. The primary sees it, ends PostgreSQL and gives the lease back; where it
    /// is gone already, its end is proven as ever. Another order takes the place of one that is under way.
    ///
    /// # Errors
    /// When the node is no member or the primary itself, that is ordered already, or a candidate may be taking the
    /// next epoch.
    pub fn take_over(&self, by: NodeName, ordered: Ordered) -> Next {
        self.not_nominated()?;
        if let Some(node) = ordered.takeover.node() {
            if !self.members.contains_key(node) {
                return Err(Refusal::Stranger(node.clone()));
            }
            // A former primary that is forced comes back from its own log, as one of those who stopped.
            let forced = matches!(ordered.takeover, Takeover::Force(_));
            if self.lease.node() == node && !(forced && self.holder().is_none()) {
                return Err(Refusal::InCharge(node.clone()));
            }
        }
        if self.ordered().is_some_and(|before| before.takeover == ordered.takeover) {
            return Err(Refusal::Nothing);
        }
        let mut next = self.clone();
        match &mut next.freeze {
            Some(freeze) => freeze.ordered = Some(ordered),
            None => {
                next.freezes += 1;
                let (number, reason) = (next.freezes, Suspicion::Ordered);
                next.freeze = Some(Freeze { number, by, reason, ordered: Some(ordered) });
            }
        }
        Ok(next)
    }

    /// A commit shall wait for others from now on; the primary changes its voters next.
    ///
    /// # Errors
    /// When it does already, a freeze has begun, or there are fewer others than `strict` waits for.
    pub fn set_mode(&self, mode: Mode) -> Next {
        self.not_frozen()?;
        if self.mode == mode {
            return Err(Refusal::Nothing);
        }
        let mut next = Self { mode, ..self.clone() };
        next.last_resort(self.lease.node())?;
        match (mode, next.voters.may_acknowledge_alone()) {
            (Mode::Sync { .. }, true) => next.degrade(),
            (Mode::Async { .. }, _) => next.recover(),
            (Mode::Sync { .. } | Mode::Strict { .. }, _) => {}
        }
        Ok(next)
    }
}
