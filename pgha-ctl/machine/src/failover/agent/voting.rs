//! Changing the voters (S3): the record covers every quorum that PostgreSQL may be using.
//!
//! ```text
//!   announce {old, new}  ->  PostgreSQL uses new, and nothing else any more  ->  its flush position is read
//!        ^                                                                          |
//!        |                                                                          v
//!   settled {new, floor} <------------------------------ enough of new have flushed that
//! ```
//!
//! A change that does not come to its end is followed by another; the record then covers all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::role::Step;
use super::{Agent, Command, Role};
use crate::failover::order::Refusal;
use crate::failover::pace::Pace;
use crate::failover::record::{Doubt, Mode, Record};
use crate::failover::rules::Rule;
use crate::failover::voters::VoterSet;
use crate::{Lsn, Moment, NodeName, Position};

/// The voters, as the primary sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Voting {
    /// Who streams, and how far each has flushed.
    standbys: BTreeMap<NodeName, Lsn>,
    /// Why a quorum of them would prove nothing; `None` before anybody has looked.
    doubts: Option<BTreeSet<Doubt>>,
    /// The set that would be right, and since when.
    wish: Option<(VoterSet, Moment)>,
    /// What PostgreSQL uses for certain, and its flush position after that.
    in_use: Option<(VoterSet, Lsn)>,
    /// What is being set was ordered before a doubt ended.
    outdated: bool,
    /// Where this node's timeline began, if it was promoted since the agent began.
    fork: Option<Position>,
}

impl Voting {
    pub(super) fn streaming(&mut self, standbys: BTreeMap<NodeName, Lsn>) {
        self.standbys = standbys;
    }

    /// A flush position that was read before a doubt ended says nothing of what was acknowledged until then.
    /// `written` is what the record says: of what is doubted there the agent may not have seen the beginning.
    pub(super) fn doubt(&mut self, doubts: BTreeSet<Doubt>, written: Option<&BTreeSet<Doubt>>) {
        let before = self.doubts.as_ref().or(written);
        if before.is_some_and(|before| !before.is_subset(&doubts)) {
            self.in_use = None;
            self.outdated = true;
        }
        self.doubts = Some(doubts);
    }

    pub(super) fn promoted(&mut self, voters: VoterSet, fork: Position) {
        self.in_use = Some((voters, fork.lsn));
        self.fork = Some(fork);
    }

    pub(super) fn uses_nothing_for_certain(&mut self) {
        self.in_use = None;
        self.outdated = false;
    }

    pub(super) fn uses(&mut self, voters: VoterSet, flushed: Lsn) {
        self.in_use = Some((voters, flushed)).filter(|_| !self.outdated);
    }

    pub(super) const fn fork(&self) -> Option<Position> {
        self.fork
    }

    /// Whether a standby has flushed everything before `lsn`.
    pub(super) fn has(&self, node: &NodeName, lsn: Lsn) -> bool {
        self.standbys.get(node).is_some_and(|flushed| *flushed >= lsn)
    }

    /// When a wish is old enough.
    pub(super) fn due(&self, patience: Duration) -> Option<Moment> {
        self.wish.as_ref().map(|(_, since)| *since + patience)
    }

    fn uses_now(&self) -> Option<&VoterSet> {
        self.in_use.as_ref().map(|(set, _)| set)
    }
}

impl Agent {
    /// How long a wish lasts before it is followed. After a crash standbys need longer to come back.
    pub(super) fn patience(&self, pace: &Pace) -> Duration {
        match self.role {
            Role::Restarted { .. } => pace.lease.patience(),
            Role::Down | Role::Standby { .. } | Role::Frozen { .. } | Role::Primary => pace.silence,
        }
    }

    /// Whether clients write here, or shall.
    pub(super) const fn has_voters(&self) -> bool {
        matches!(self.role, Role::Restarted { .. } | Role::Primary)
    }

    /// Notes which voters would be right by now. Who comes and goes within a moment changes nothing.
    pub(super) fn wish(&mut self, now: Moment) {
        let Some(record) = self.desk.record().filter(|_| self.has_voters()) else {
            self.voting.wish = None;
            return;
        };
        let wish = self.right_voters(record);
        if self.voting.wish.as_ref().map(|(set, _)| set) != wish.as_ref() {
            self.voting.wish = wish.map(|set| (set, now));
        }
    }

    /// Those of the members who stream. `strict` never waits for fewer than it says.
    fn right_voters(&self, record: &Record) -> Option<VoterSet> {
        let streams =
            |name: &&NodeName| **name != self.name && self.voting.standbys.contains_key(*name);
        let nodes: BTreeSet<_> = record.members.keys().filter(streams).cloned().collect();
        match record.mode {
            Mode::Async { .. } => Some(VoterSet::empty()),
            Mode::Sync { quorum, .. } => Some(VoterSet::of(nodes, quorum)),
            Mode::Strict { quorum } => (nodes.len() >= quorum).then(|| VoterSet::of(nodes, quorum)),
        }
    }

    /// The set that would be right for long enough.
    fn wished(&self, now: Moment, pace: &Pace) -> Option<&VoterSet> {
        let (set, since) = self.voting.wish.as_ref()?;
        (now.since(*since) >= self.patience(pace)).then_some(set)
    }

    /// PostgreSQL shall use the last set that was announced, and none that was not.
    pub(super) fn use_voters(&self, now: Moment) -> Step {
        let Some(record) = self.desk.record() else { return Step::Stay };
        let wanted = if self.rules.hold(Rule::S3) {
            Some(record.voters.wanted())
        } else {
            self.wished(now, &record.pace)
        };
        match wanted {
            Some(wanted) if self.voting.uses_now() != Some(wanted) => {
                Step::Do(Command::UseVoters(wanted.clone()))
            }
            Some(_) | None => Step::Stay,
        }
    }

    /// The next write of a change.
    pub(super) fn to_vote(&self, now: Moment, record: &Record) -> Option<Record> {
        if !self.has_voters() {
            return None;
        }
        if !self.rules.hold(Rule::S3) {
            let uses = self.voting.uses_now()?;
            let announced = record.announce(&self.name, uses.clone()).ok()?;
            return announced.settle(&self.name, record.voters.floor, &record.doubts).ok();
        }
        self.to_settle(record).or_else(|| {
            let wished = self.wished(now, &record.pace)?;
            match record.announce(&self.name, wished.clone()) {
                // None of the changes before has come to its end.
                Err(Refusal::Changing) => {
                    record.announce(&self.name, record.last_resort(&self.name).ok()?).ok()
                }
                announced => announced.ok(),
            }
        })
    }

    /// What is doubtful is told before anybody relies on it.
    pub(super) fn to_doubt(&self, record: &Record) -> Option<Record> {
        let doubts = self.voting.doubts.as_ref().filter(|_| self.has_voters())?;
        record.doubt(&self.name, doubts).ok()
    }

    fn to_settle(&self, record: &Record) -> Option<Record> {
        let (uses, lsn) = self.voting.in_use.as_ref()?;
        let flushed = |node: &NodeName| self.voting.has(node, *lsn);
        if uses != record.voters.wanted() || !uses.acknowledged_by(flushed) {
            return None;
        }
        let floor = Position { timeline: record.term().timeline, lsn: *lsn };
        let doubts = self.voting.doubts.as_ref().unwrap_or(&record.doubts);
        record.settle(&self.name, floor, doubts).ok()
    }

    /// The new timeline is told, so that others follow.
    pub(super) fn to_promote(&self, record: &Record) -> Option<Record> {
        let writes = matches!(self.role, Role::Restarted { .. } | Role::Primary);
        let fork = self.fork(record).filter(|_| writes)?;
        record.promoted(&self.name, fork).ok()
    }
}
