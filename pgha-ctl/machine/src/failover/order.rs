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
//!
//! An operator's `take_over` is a freeze that is never wrong: the primary answers it by `release`.
//! Beside it: `doubt` is the primary's, and what operators write stands in `order/operator.rs`.

mod operator;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use refusal::Next;
pub use refusal::Refusal;

use super::election::Frozen;
use super::record::{
    Cause, Degraded, Doubt, Freeze, Kinship, Lease, Mode, Nomination, Proof, Record, Suspicion,
    Term,
};
use super::rules::{Rule, Rules};
use super::voters::{VoterSet, Voters};
use crate::{Lsn, NodeName, Position, Timeline, Wal};

/// Of how many sets the voters of an epoch may be, at most: a change that does not come to its end is
/// followed by another. The last place is for the set that always comes to its end, if any does.
const MAX_SETS: usize = 4;
/// So many terms are remembered. A log that left the history before the first of them is copied anew.
const MAX_TERMS: usize = 64;
/// So many degraded times of a term are remembered.
const MAX_DEGRADED: usize = 16;

impl Record {
    /// The primary goes on. It has seen all members by now, and asks them too when the store is gone. That
    /// its log was further already stays known: an agent that was restarted does not know it at once.
    ///
    /// # Errors
    /// When it does not hold the lease any more, or a candidate may be taking the next epoch.
    pub fn renew(&self, node: &NodeName, run: u64, flushed: Lsn) -> Next {
        self.held_by(node)?;
        self.not_nominated()?;
        let mut next = self.clone();
        let flushed = flushed.max(self.lease.flushed());
        let renewal = self.lease.renewal() + 1;
        next.lease = Lease::Held { by: node.clone(), run, renewal, flushed };
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
        next.freeze = Some(Freeze { number: next.freezes, by, reason, ordered: None });
        Ok(next)
    }

    /// The suspicion was wrong. Written before any voter streams again.
    ///
    /// # Errors
    /// When there is none, an operator has ordered another primary, a candidate may be taking the next epoch, or
    /// nobody holds the lease.
    pub fn thaw(&self) -> Next {
        if self.freeze.is_none() {
            return Err(Refusal::NotFrozen(self.epoch));
        }
        if self.ordered().is_some() {
            return Err(Refusal::Ordered(self.epoch));
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
        let renewal = self.lease.renewal() + 1;
        next.lease = Lease::Released { by: node.clone(), renewal, flushed: self.lease.flushed() };
        Ok(next)
    }

    /// A candidate may take the next epoch.
    ///
    /// # Errors
    /// When the voters are not frozen, somebody else was nominated, the log of the candidate is not known, or
    /// the primary would not ask the candidate when the store is gone (S8).
    pub fn nominate(
        &self,
        node: NodeName,
        by: NodeName,
        proof: Proof,
        frozen: &Frozen,
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
        let end = frozen.get(&node).ok_or_else(|| Refusal::Unfrozen(node.clone()))?.end;
        let voters = frozen.keys().filter(|name| **name != node).cloned().collect();
        let nomination = Nomination { node, by, proof, end, voters, forced: false };
        Ok(Self { nomination: Some(nomination), ..self.clone() })
    }

    /// The candidate that an operator has ordered may take the next epoch, whatever it lacks.
    ///
    /// # Errors
    /// As [`Record::nominate`], and when nobody ordered that. Frozen voters are no proof for one that need not
    /// have what they have: a client may be told of that still.
    pub fn nominate_forced(
        &self,
        node: NodeName,
        by: NodeName,
        proof: Proof,
        frozen: &Frozen,
        rules: Rules,
    ) -> Next {
        if self.forced() != Some(&node) || proof == Proof::Quorum {
            return Err(Refusal::NotOrdered(node));
        }
        let mut next = self.nominate(node, by, proof, frozen, rules)?;
        if let Some(nomination) = &mut next.nomination {
            nomination.forced = true;
        }
        Ok(next)
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
        if rules.hold(Rule::S4) && !wal.contains(nomination.end) {
            return Err(Refusal::Shorter(node.clone()));
        }
        if rules.hold(Rule::S4) && !nomination.forced && !wal.contains(self.voters.floor) {
            return Err(Refusal::BelowFloor { node: node.clone(), epoch: self.epoch });
        }
        let epoch = self.epoch.next();
        let known = self.terms.iter().map(|term| term.timeline).chain(wal.timelines());
        let newest = known.max().map_or(0, Timeline::get);
        let first = self.first_voters(node, &nomination.voters)?;
        // Where nobody is waited for and nobody was, nothing of the log was promised to anybody.
        let promised = !first.is_open() || self.voters.sets.iter().any(|set| !set.is_open());
        // Of what a forced one lacks, nothing is promised any more.
        let floor = if promised || nomination.forced { wal.end } else { self.voters.floor };
        let mut next = self.clone();
        next.epoch = epoch;
        next.lease = Lease::Held { by: node.clone(), run, renewal: 0, flushed: wal.end.lsn };
        next.voters = Voters { sets: vec![first], floor };
        next.freeze = None;
        next.nomination = None;
        next.terms.push(Term {
            epoch,
            node: node.clone(),
            timeline: Timeline::new(newest + 1),
            fork: wal.end,
            promoted: false,
            degraded: Vec::new(),
            cause: self.freeze.as_ref().map(|freeze| Cause {
                reason: freeze.reason,
                proof: nomination.proof,
                ordered: freeze.ordered.clone(),
                forced: nomination.forced,
            }),
        });
        next.terms.drain(..next.terms.len().saturating_sub(MAX_TERMS));
        if matches!(next.mode, Mode::Sync { .. }) && next.voters.may_acknowledge_alone() {
            next.degrade();
        }
        next.doubts.clear();
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
        match self.mode {
            Mode::Async { .. } => Ok(VoterSet::empty()),
            Mode::Sync { quorum, .. } => Ok(VoterSet::of(there, quorum)),
            Mode::Strict { quorum } if there.len() >= quorum => Ok(VoterSet::of(there, quorum)),
            Mode::Strict { .. } => self.last_resort(node),
        }
    }

    /// The set that comes to its end if any does: nobody or, for `strict`, as many as it says of all others.
    ///
    /// # Errors
    /// When those are fewer.
    pub(super) fn last_resort(&self, node: &NodeName) -> Result<VoterSet, Refusal> {
        match self.mode {
            Mode::Async { .. } | Mode::Sync { .. } => Ok(VoterSet::empty()),
            Mode::Strict { quorum } => {
                let others = self.members.keys().filter(|name| *name != node);
                let others: BTreeSet<NodeName> = others.cloned().collect();
                let enough = others.len() >= quorum.max(1);
                enough.then(|| VoterSet::of(others, quorum)).ok_or(Refusal::MustWait)
            }
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
            let floor = &mut next.voters.floor;
            if floor.timeline == fork.timeline && floor.lsn > fork.lsn {
                *floor = fork;
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
        // It may be using any of them, so that one is not told twice.
        let mut sets = self.voters.sets.clone();
        sets.retain(|before| *before != set);
        let last_resort = self.last_resort(node).as_ref() == Ok(&set);
        if !last_resort && sets.len() + 1 >= MAX_SETS {
            return Err(Refusal::Changing);
        }
        if let Mode::Strict { quorum } = self.mode
            && set.quorum < quorum.max(1)
        {
            return Err(Refusal::MustWait);
        }
        sets.push(set);
        let mut next = self.clone();
        next.voters.sets = sets;
        if matches!(self.mode, Mode::Sync { .. }) && next.voters.may_acknowledge_alone() {
            next.degrade();
        }
        Ok(next)
    }

    /// PostgreSQL uses the last set and no other, and enough of it have everything before `floor` (S3). What was
    /// doubtful before that floor is no more; `doubts` are those that are left.
    ///
    /// # Errors
    /// When the node does not hold the lease, the voters are frozen, or there is but one set and no doubt less.
    pub fn settle(&self, node: &NodeName, floor: Position, doubts: &BTreeSet<Doubt>) -> Next {
        self.held_by(node)?;
        self.not_frozen()?;
        if self.voters.is_settled() && self.doubts.is_subset(doubts) {
            return Err(Refusal::NotChanging);
        }
        if floor < self.voters.floor {
            return Err(Refusal::BelowFloor { node: node.clone(), epoch: self.epoch });
        }
        let mut next = self.clone();
        next.voters = Voters { sets: vec![self.voters.wanted().clone()], floor };
        next.doubts.clone_from(doubts);
        if !next.voters.may_acknowledge_alone() {
            next.recover();
        }
        Ok(next)
    }

    /// A quorum of frozen voters would prove nothing from now on. Only [`Record::settle`] takes it back.
    ///
    /// # Errors
    /// When the node does not hold the lease, a candidate may be taking the next epoch, or that is written.
    pub fn doubt(&self, node: &NodeName, doubts: &BTreeSet<Doubt>) -> Next {
        self.held_by(node)?;
        self.not_nominated()?;
        if doubts.is_subset(&self.doubts) {
            return Err(Refusal::Nothing);
        }
        let mut next = self.clone();
        next.doubts.extend(doubts.iter().cloned());
        Ok(next)
    }

    /// Commits wait for nobody from here on.
    fn degrade(&mut self) {
        let from = self.lease.flushed();
        let Some(term) = self.terms.last_mut() else { return };
        if term.degraded.last().is_none_or(|last| last.until.is_some()) {
            term.degraded.push(Degraded { from, until: None });
            term.degraded.drain(..term.degraded.len().saturating_sub(MAX_DEGRADED));
        }
    }

    /// They wait again, or shall not wait.
    fn recover(&mut self) {
        let until = self.voters.floor.lsn;
        let last = self.terms.last_mut().and_then(|term| term.degraded.last_mut());
        if let Some(last) = last.filter(|last| last.until.is_none()) {
            last.until = Some(until.max(last.from));
        }
    }

    fn held_by(&self, node: &NodeName) -> Result<(), Refusal> {
        match &self.lease {
            Lease::Held { by, .. } if by == node => Ok(()),
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
