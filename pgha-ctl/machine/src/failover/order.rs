//! The order of a failover: every write to the record that there is, from the top to the bottom as they
//! follow each other. Each is a function from one state of the record to the next, or a [`Refusal`] that
//! names what stands against it. Whoever calls one puts the result by a compare-and-set that expects the
//! state it was made from.
//!
//! ```text
//!   renew ... renew ... renew                      the primary, each T/4
//!        |
//!        v
//!   freeze ----------------- thaw                  a controller; undone by it or by the primary
//!        |                     ^
//!        |  release            |                   the primary, when it has ended itself
//!        v                     |
//!   nominate ------------- withdraw                a controller, with a proof and a candidate
//!        |
//!        v
//!   take                                           the nominee: a new epoch
//!        |
//!        v
//!   promoted                                       the nominee: its timeline exists
//!        |
//!        v
//!   announce ------------- settle                  the primary: its voters grow
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::pace::Pace;
use super::record::{
    Freeze, Kinship, Lease, Member, Mode, Nomination, Proof, Record, Suspicion, Term,
};
use super::rules::{Rule, Rules};
use super::voters::{VoterSet, Voters};
use crate::{Epoch, Lsn, NodeName, Position, Timeline, Wal};

/// Of how many sets the voters of an epoch may be, at most: a change that does not come to its end is
/// followed by another.
const MAX_SETS: usize = 4;

/// Why a write is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another node, or nobody, holds the lease.
    #[error("{node} does not hold the lease of epoch {epoch}")]
    NotHolder {
        /// Who wanted to write.
        node: NodeName,
        /// The epoch of the record.
        epoch: Epoch,
    },
    /// A candidate may be taking the next epoch.
    #[error("{0} is nominated for the next epoch")]
    Nominated(NodeName),
    /// Voters may have stopped.
    #[error("the voters of epoch {0} are frozen")]
    Frozen(Epoch),
    /// There is nothing to prove anything about.
    #[error("the voters of epoch {0} are not frozen")]
    NotFrozen(Epoch),
    /// Somebody else was nominated, or nobody.
    #[error("{0} is not nominated")]
    NotNominated(NodeName),
    /// Nobody would ask it when the store is gone.
    #[error("the primary has not yet confirmed {0} as a member")]
    Unconfirmed(NodeName),
    /// There is no such member.
    #[error("{0} is no member")]
    Stranger(NodeName),
    /// Its log has something that the cluster's does not have.
    #[error("the log of {0} is not a beginning of the cluster's")]
    Diverged(NodeName),
    /// It lacks what may have been acknowledged.
    #[error("the log of {node} does not reach the floor of epoch {epoch}")]
    BelowFloor {
        /// Who.
        node: NodeName,
        /// Whose floor.
        epoch: Epoch,
    },
    /// A set of voters follows another and PostgreSQL has not come to the last one.
    #[error("the voters change already")]
    Changing,
    /// Only with the last set alone can the change be ended.
    #[error("there is no change of the voters to be ended")]
    NotChanging,
    /// `strict` waits for voters, whoever is gone.
    #[error("the mode does not allow that a commit waits for fewer voters than its quorum")]
    MustWait,
    /// It was said already.
    #[error("nothing is to be written")]
    Nothing,
}

type Next = Result<Record, Refusal>;

impl Record {
    /// The first record: one primary, with nobody to wait for yet.
    #[must_use]
    pub fn founded(node: NodeName, wal: &Wal, mode: Mode, pace: Pace) -> Self {
        let epoch = Epoch::new(1);
        let member = Member { confirmed: true, nofailover: false, priority: 0 };
        let term = Term {
            epoch,
            node: node.clone(),
            timeline: wal.end.timeline,
            fork: wal.end,
            promoted: true,
        };
        Self {
            members: [(node.clone(), member)].into(),
            mode,
            pace,
            epoch,
            lease: Lease::Held { by: node, run: 0, renewal: 0, flushed: wal.end.lsn },
            voters: Voters { sets: vec![VoterSet::empty()], floor: wal.end },
            freeze: None,
            freezes: 0,
            nomination: None,
            unprovable: None,
            terms: vec![term],
        }
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

    /// The primary goes on. It has seen all members by now, and asks them too when the store is gone. That
    /// its log was further already stays known: an agent that was restarted does not know it at once.
    ///
    /// # Errors
    /// When it does not hold the lease any more, or a candidate may be taking the next epoch.
    pub fn renew(&self, node: &NodeName, run: u64, flushed: Lsn) -> Next {
        let renewal = self.held_by(node)?;
        self.not_nominated()?;
        let mut next = self.clone();
        let flushed = flushed.max(self.lease.flushed());
        next.lease = Lease::Held { by: node.clone(), run, renewal: renewal + 1, flushed };
        for member in next.members.values_mut() {
            member.confirmed = true;
        }
        Ok(next)
    }

    /// The primary is suspected. From here on it cannot change its voters, and voters stop.
    ///
    /// # Errors
    /// When that was written before.
    pub fn freeze(&self, by: NodeName, reason: Suspicion) -> Next {
        if self.freeze.is_some() {
            return Err(Refusal::Frozen(self.epoch));
        }
        let mut next = self.clone();
        next.freezes += 1;
        next.freeze = Some(Freeze { number: next.freezes, by, reason });
        Ok(next)
    }

    /// The suspicion was wrong. Written before any voter streams again.
    ///
    /// # Errors
    /// When there is none, a candidate may be taking the next epoch, or nobody holds the lease.
    pub fn thaw(&self) -> Next {
        if self.freeze.is_none() {
            return Err(Refusal::NotFrozen(self.epoch));
        }
        self.not_nominated()?;
        self.held_by(self.lease.node())?;
        Ok(Self { freeze: None, ..self.clone() })
    }

    /// The primary has closed its gate for good and ended every process of PostgreSQL. That is suspicion
    /// and proof in one.
    ///
    /// # Errors
    /// When it does not hold the lease any more.
    pub fn release(&self, node: &NodeName) -> Next {
        self.held_by(node)?;
        self.not_nominated()?;
        let mut next = match &self.freeze {
            Some(_) => self.clone(),
            None => self.freeze(node.clone(), Suspicion::Released)?,
        };
        next.lease = Lease::Released { by: node.clone(), flushed: self.lease.flushed() };
        Ok(next)
    }

    /// A candidate may take the next epoch.
    ///
    /// # Errors
    /// When the voters are not frozen, somebody else was nominated, or the primary would not ask the
    /// candidate when the store is gone (S8).
    pub fn nominate(
        &self,
        node: NodeName,
        by: NodeName,
        proof: Proof,
        voters: Vec<NodeName>,
        rules: Rules,
    ) -> Next {
        if self.freeze.is_none() {
            return Err(Refusal::NotFrozen(self.epoch));
        }
        self.not_nominated()?;
        let member = self.members.get(&node).ok_or_else(|| Refusal::Stranger(node.clone()))?;
        if rules.hold(Rule::S8) && !member.confirmed {
            return Err(Refusal::Unconfirmed(node));
        }
        let nomination = Nomination { node, by, proof, voters };
        Ok(Self { nomination: Some(nomination), ..self.clone() })
    }

    /// The nominee did not take the epoch, and can no more.
    ///
    /// # Errors
    /// When nobody is nominated.
    pub fn withdraw(&self) -> Next {
        match &self.nomination {
            Some(_) => Ok(Self { nomination: None, ..self.clone() }),
            None => Err(Refusal::Nothing),
        }
    }

    /// The nominee takes the next epoch (S1, S2). It begins with voters of its own, and none below where it
    /// begins is ever a candidate in it (S3).
    ///
    /// # Errors
    /// When it was not nominated, its log is not what a candidate's must be (S4, S6), or there are fewer
    /// others than `strict` waits for.
    pub fn take(&self, node: &NodeName, run: u64, wal: &Wal, rules: Rules) -> Next {
        let nomination = match &self.nomination {
            Some(nomination) if nomination.node == *node => nomination,
            Some(_) | None => return Err(Refusal::NotNominated(node.clone())),
        };
        if rules.hold(Rule::S6) && self.kinship(wal) == Kinship::Diverged {
            return Err(Refusal::Diverged(node.clone()));
        }
        if rules.hold(Rule::S4) && !wal.contains(self.voters.floor) {
            return Err(Refusal::BelowFloor { node: node.clone(), epoch: self.epoch });
        }
        let epoch = self.epoch.next();
        let known = self.terms.iter().map(|term| term.timeline).chain(wal.timelines());
        let newest = known.max().map_or(0, Timeline::get);
        let mut next = self.clone();
        next.epoch = epoch;
        next.lease = Lease::Held { by: node.clone(), run, renewal: 0, flushed: wal.end.lsn };
        next.voters =
            Voters { sets: vec![self.first_voters(node, &nomination.voters)?], floor: wal.end };
        next.freeze = None;
        next.nomination = None;
        next.terms.push(Term {
            epoch,
            node: node.clone(),
            timeline: Timeline::new(newest + 1),
            fork: wal.end,
            promoted: false,
        });
        for member in next.members.values_mut() {
            member.confirmed = true;
        }
        Ok(next)
    }

    /// Those who were there when the candidate was chosen; for `strict`, all others where those are fewer
    /// than it waits for.
    fn first_voters(&self, node: &NodeName, there: &[NodeName]) -> Result<VoterSet, Refusal> {
        let others = |name: &&NodeName| *name != node && self.members.contains_key(*name);
        let there: BTreeSet<NodeName> = there.iter().filter(others).cloned().collect();
        let all = || self.members.keys().filter(others).cloned().collect::<BTreeSet<_>>();
        match self.mode {
            Mode::Async { .. } => Ok(VoterSet::empty()),
            Mode::Sync { quorum, .. } => Ok(VoterSet::of(there, quorum)),
            Mode::Strict { quorum } => [there, all()]
                .into_iter()
                .find(|voters| voters.len() >= quorum)
                .map(|voters| VoterSet::of(voters, quorum))
                .ok_or(Refusal::MustWait),
        }
    }

    /// The new timeline exists, and begins there.
    ///
    /// # Errors
    /// When the node does not hold the lease, or that is written already.
    pub fn promoted(&self, node: &NodeName, fork: Position) -> Next {
        self.held_by(node)?;
        if self.term().promoted {
            return Err(Refusal::Nothing);
        }
        let mut next = self.clone();
        if let Some(term) = next.terms.last_mut() {
            // The log may have ended within an entry, which is no part of it.
            if next.voters.floor == term.fork {
                next.voters.floor = fork;
            }
            term.fork = fork;
            term.promoted = true;
        }
        Ok(next)
    }

    /// PostgreSQL may be using other voters from now on (S3): a candidate needs enough of each set.
    ///
    /// # Errors
    /// When the node does not hold the lease, the voters are frozen, the change before has not ended too
    /// often, or the mode forbids that so few are waited for.
    pub fn announce(&self, node: &NodeName, set: VoterSet) -> Next {
        self.held_by(node)?;
        self.not_frozen()?;
        if *self.voters.wanted() == set {
            return Err(Refusal::Nothing);
        }
        if self.voters.sets.len() >= MAX_SETS {
            return Err(Refusal::Changing);
        }
        if let Mode::Strict { quorum } = self.mode
            && set.quorum < quorum.max(1)
        {
            return Err(Refusal::MustWait);
        }
        let mut next = self.clone();
        next.voters.sets.push(set);
        Ok(next)
    }

    /// PostgreSQL uses the last set and no other, and enough of it have everything before `floor` (S3).
    ///
    /// # Errors
    /// When the node does not hold the lease, the voters are frozen, or there is but one set.
    pub fn settle(&self, node: &NodeName, floor: Position) -> Next {
        self.held_by(node)?;
        self.not_frozen()?;
        if self.voters.is_settled() {
            return Err(Refusal::NotChanging);
        }
        if floor < self.voters.floor {
            return Err(Refusal::BelowFloor { node: node.clone(), epoch: self.epoch });
        }
        let mut next = self.clone();
        next.voters = Voters { sets: vec![self.voters.wanted().clone()], floor };
        Ok(next)
    }

    /// The number of the last renewal.
    fn held_by(&self, node: &NodeName) -> Result<u64, Refusal> {
        match &self.lease {
            Lease::Held { by, renewal, .. } if by == node => Ok(*renewal),
            Lease::Held { .. } | Lease::Released { .. } => {
                Err(Refusal::NotHolder { node: node.clone(), epoch: self.epoch })
            }
        }
    }

    fn not_nominated(&self) -> Result<(), Refusal> {
        match &self.nomination {
            Some(nomination) => Err(Refusal::Nominated(nomination.node.clone())),
            None => Ok(()),
        }
    }

    fn not_frozen(&self) -> Result<(), Refusal> {
        if self.freeze.is_some() { Err(Refusal::Frozen(self.epoch)) } else { Ok(()) }
    }
}
