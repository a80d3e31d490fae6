//! What must hold, whatever happens.

use std::fmt;

use pgha_machine::failover::record::{Mode, Proof, Record};
use pgha_machine::{Epoch, Lsn, NodeName};

use crate::postgres::{Commit, Log};

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// I1: a commit was acknowledged, and a later primary does not have it.
    Lost {
        /// Which commit.
        commit: u32,
        /// In which epoch it was acknowledged.
        acknowledged: Epoch,
        /// The epoch of the primary without it.
        primary: Epoch,
    },
    /// I2: an old primary acknowledged after a new one had, and what it acknowledged is not in the log that
    /// the new one began with. What was flushed by voters before they stopped may be told to a client late: it
    /// is no second history.
    TwoWriters {
        /// Its epoch.
        old: Epoch,
        /// The other's.
        new: Epoch,
    },
    /// I2: after the next epoch was taken an old primary acknowledged though its gate was to be closed by then, or
    /// it was proven that it was gone.
    Overlap {
        /// Its epoch.
        old: Epoch,
        /// How long after, in milliseconds.
        late: u64,
    },
    /// I3: the writer VIP is claimed while another node has it whose gate is open.
    TwoAddresses {
        /// In which epoch it is claimed.
        epoch: Epoch,
        /// Who has it.
        at: usize,
    },
    /// A commit that waited for nobody is lost, though it lay further back than a candidate may lack.
    LostTooMuch {
        /// Which commit.
        commit: u32,
        /// In which epoch it was acknowledged.
        acknowledged: Epoch,
        /// The epoch of the primary without it.
        primary: Epoch,
    },
    /// `strict`: a commit was acknowledged that fewer standbys have flushed than it waits for.
    TooFew {
        /// Which commit.
        commit: u32,
        /// How many have it.
        copies: usize,
    },
    /// S3: PostgreSQL goes by voters that the record does not know.
    Unannounced {
        /// The node.
        node: usize,
    },
    /// S6: a node was told to stream though its log is not a beginning of the primary's.
    Diverged {
        /// The node.
        node: usize,
    },
    /// S7: after a crash a client could see what no quorum has.
    SeenAlone {
        /// The node.
        node: usize,
        /// Where its log ended.
        end: Lsn,
    },
    /// S1: a node came out of recovery under an epoch that is not its own.
    Unlicensed {
        /// The node.
        node: usize,
    },
    /// S5: after the store was put back from a backup, an agent believes a record that has come less far than what
    /// is on its disk.
    WentBack {
        /// The node.
        node: usize,
    },
    /// A server was started in a data directory that was left in the middle of a rewind.
    Torn {
        /// The node.
        node: usize,
    },
    /// The record took a step that is none.
    Record(&'static str),
    /// Faults had ended long before, and nobody acknowledges.
    NoProgress,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An acknowledged commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Acknowledged {
    place: usize,
    commit: Commit,
    epoch: Epoch,
}

/// How an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct End {
    epoch: Epoch,
    /// When the next one was taken.
    at: u64,
    /// Until when the gate of its primary may be open.
    open: u64,
    /// What lies before this place may not be lost, whoever was waited for.
    sure: usize,
}

/// What was acknowledged, and what must be true of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Oracle {
    acknowledged: Vec<Acknowledged>,
    /// What was acknowledged by the primary alone.
    alone: Vec<Acknowledged>,
    ends: Vec<End>,
    newest: Epoch,
    /// The logs with which primaries began.
    beginnings: Vec<(Epoch, Log)>,
    /// When something was acknowledged last.
    pub(crate) last: u64,
    /// How many commits were acknowledged at all.
    pub(crate) count: usize,
    /// How many of them were lost by an operator's word.
    pub(crate) given_up: usize,
}

/// Whether an operator has said that what was acknowledged before that epoch may be lost.
pub(crate) fn is_forced(record: &Record, epoch: Epoch) -> bool {
    record.terms.iter().any(|term| term.epoch == epoch && term.is_forced())
}

/// Whether the record gives that epoch to that node (S1).
pub(crate) fn licensed(record: &Record, node: &NodeName, epoch: Epoch) -> bool {
    record.terms.iter().any(|term| term.epoch == epoch && term.node == *node)
}

/// Whether enough of every set of voters have what clients of a primary see from now on (S7). Of a primary
/// of another epoch nothing is known here.
pub(crate) fn seen_by_enough(
    record: &Record,
    epoch: Epoch,
    has: impl Fn(&NodeName) -> bool,
) -> bool {
    record.epoch != epoch || record.voters.sets.iter().all(|set| set.acknowledged_by(&has))
}

impl Oracle {
    /// A client was told that its commit is done. `record` is what the store has.
    pub(crate) fn acknowledge(
        &mut self,
        now: u64,
        (place, commit, epoch): (usize, Commit, Epoch),
        record: &Record,
    ) -> Result<(), Violation> {
        self.last = now;
        self.count += 1;
        let end = self.ends.iter().find(|end| end.epoch == epoch);
        if let Some(end) = end.filter(|end| now > end.open) {
            return Err(Violation::Overlap { old: epoch, late: now - end.at });
        }
        let without = |(of, log): &&(Epoch, Log)| *of > epoch && !log.has(place, commit);
        if let Some((new, _)) = self.beginnings.iter().find(without) {
            return Err(Violation::TwoWriters { old: epoch, new: *new });
        }
        self.newest = self.newest.max(epoch);
        // What the record calls unsynchronised may be lost.
        let alone = record.epoch == epoch && record.voters.may_acknowledge_alone();
        let it = Acknowledged { place, commit, epoch };
        if !alone && !matches!(record.mode, Mode::Async { .. }) {
            self.acknowledged.push(it);
        } else {
            self.alone.push(it);
        }
        Ok(())
    }

    /// A node begins to accept writes. `forced`: an operator has said that what was acknowledged before may be
    /// lost (I1). That nobody acknowledges beside it holds all the same (I2).
    pub(crate) fn opens(&mut self, log: &Log, epoch: Epoch, forced: bool) -> Result<(), Violation> {
        self.beginnings.push((epoch, log.clone()));
        if epoch < self.newest {
            // What it acknowledges from here on is looked at then.
            return Ok(());
        }
        if forced {
            let gone = |it: &mut Acknowledged| it.epoch < epoch && !log.has(it.place, it.commit);
            self.given_up += self.acknowledged.extract_if(.., gone).count();
            self.given_up += self.alone.extract_if(.., gone).count();
        }
        let lost = self.acknowledged.iter().find(|it| !log.has(it.place, it.commit));
        if let Some(it) = lost {
            let Acknowledged { commit, epoch: acknowledged, .. } = *it;
            return Err(Violation::Lost { commit, acknowledged, primary: epoch });
        }
        // In its own epoch nothing is lost; by each change of the primary no more than the mode allows.
        let ends = &self.ends;
        let sure = |it: &Acknowledged| {
            let between = ends.iter().filter(|end| end.epoch >= it.epoch && end.epoch < epoch);
            between.map(|end| end.sure).min().unwrap_or(usize::MAX)
        };
        let gone: Vec<_> = self.alone.extract_if(.., |it| !log.has(it.place, it.commit)).collect();
        let too_much = gone.iter().find(|it| it.place < sure(it));
        too_much.map_or(Ok(()), |it| {
            let Acknowledged { commit, epoch: acknowledged, .. } = *it;
            Err(Violation::LostTooMuch { commit, acknowledged, primary: epoch })
        })
    }

    /// The next epoch was taken.
    pub(crate) fn granted(&mut self, now: u64, before: &Record) {
        let voters = &before.voters;
        let known = before.lease.flushed().bytes().saturating_sub(before.mode.max_lag());
        let sure = if voters.may_acknowledge_alone() {
            usize::try_from(known.max(voters.floor.lsn.bytes())).unwrap_or(usize::MAX)
        } else {
            usize::MAX
        };
        // Frozen voters prove that nothing new is acknowledged. What they have, a client may be told of until
        // the gate closes.
        let late = matches!(&before.nomination, Some(it) if it.proof == Proof::Quorum);
        let lease = before.pace.lease.proven_after().as_millis();
        let open = if late { now + u64::try_from(lease).unwrap_or(u64::MAX) } else { now };
        self.ends.push(End { epoch: before.epoch, at: now, open, sure });
    }

    /// The record changes.
    pub(crate) fn writes(before: &Record, after: &Record) -> Result<(), Violation> {
        let granted = after.epoch != before.epoch;
        let wrong = if granted && after.epoch != before.epoch.next() {
            Some("an epoch was left out, or taken twice")
        } else if granted && before.nomination.is_none() {
            Some("an epoch was taken without a nomination")
        } else if !granted && before.nomination.is_some() && before.voters.sets != after.voters.sets
        {
            Some("the voters changed while somebody was nominated")
        } else if !granted && before.freeze.is_some() && before.voters.sets != after.voters.sets {
            Some("the voters changed while they were frozen")
        } else if let Mode::Strict { quorum } = after.mode
            && let Some(set) = after.voters.sets[1..].last()
            && !before.voters.sets.contains(set)
            && set.quorum < quorum
        {
            Some("strict shall wait for fewer than it says")
        } else if after.freezes < before.freezes || after.epoch < before.epoch {
            Some("a number went back")
        } else {
            None
        };
        wrong.map_or(Ok(()), |wrong| Err(Violation::Record(wrong)))
    }
}
