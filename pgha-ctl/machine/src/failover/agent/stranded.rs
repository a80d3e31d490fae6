//! A standby that the primary has left behind: what it would stream next is no longer in the primary's log.
//!
//! ```text
//!          lacks it for long enough               Copied                      Exchange
//!   well -------------------------> copying ----------------> copied -------------------------> standby of nobody
//!     ^                                | fails                   | another epoch, or it got on after all
//!     +--------------------------------+-------------------------+
//! ```
//!
//! What it has may have been acknowledged by it, and it may be asked to stop for a freeze at any moment (S3, S4). So it
//! stays what it is, with all of its log, while a copy of the primary's data directory is made beside; and the copy takes
//! the place of its own only where it has all of that log: of this very epoch, and as far at least. No moment is there
//! in which the node has less than it had.

use super::{Agent, Effect, Role, Standing};
use crate::failover::record::{Kinship, Record};
use crate::{Epoch, Lsn, Moment, NodeName, Position};

/// How it is with that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stranded {
    /// It streams, or can as far as is known.
    #[default]
    Not,
    /// It cannot, since then. Its log ended there, and does not grow.
    Since(Moment, Position),
    /// A copy of that node's data directory is made, in that epoch.
    Copying {
        /// Which copy: a number that grows.
        number: u64,
        /// Of whom.
        of: NodeName,
        /// In which epoch that is the primary.
        epoch: Epoch,
    },
    /// The copy is there.
    Copied {
        /// Of whom.
        of: NodeName,
        /// In which epoch that is the primary.
        epoch: Epoch,
        /// It has the log up to there at least.
        to: Lsn,
    },
}

impl Agent {
    /// Whether this node is left behind, and what becomes of that.
    #[must_use]
    pub const fn stranded(&self) -> &Stranded {
        &self.stranded
    }

    /// Sees whether this node is left behind. What the primary removed does not come back, but what this node has read
    /// from elsewhere meanwhile may bring it on.
    pub(super) fn see_whether_stranded(&mut self, now: Moment) {
        let Some(record) = self.desk.record() else { return };
        let lacks = self.lacks(record);
        let same = |epoch: &Epoch| *epoch == record.epoch;
        self.stranded = match (std::mem::take(&mut self.stranded), lacks) {
            // What becomes of the copy is judged when it is there.
            (Stranded::Copying { number, of, epoch }, _) if same(&epoch) => {
                Stranded::Copying { number, of, epoch }
            }
            (Stranded::Copied { of, epoch, to }, Some((from, end)))
                if same(&epoch) && of == from && end.lsn <= to =>
            {
                Stranded::Copied { of, epoch, to }
            }
            (Stranded::Since(since, before), Some((from, end))) if before == end => {
                if now.since(since) < record.pace.lease.patience() {
                    Stranded::Since(since, before)
                } else {
                    self.copies += 1;
                    let (number, epoch) = (self.copies, record.epoch);
                    self.effects.push_back(Effect::Copy { number, from: from.clone() });
                    Stranded::Copying { number, of: from, epoch }
                }
            }
            (_, Some((_, end))) => Stranded::Since(now, end),
            (_, None) => Stranded::Not,
        };
    }

    /// The primary that has not what this node would stream next, and where its log ends. One that has diverged is
    /// rewound instead.
    fn lacks(&self, record: &Record) -> Option<(NodeName, Position)> {
        let Role::Standby { upstream: Some(upstream) } = &self.role else { return None };
        let Standing::Follower { of } = Standing::of(&self.name, Some(record)) else { return None };
        if of != *upstream || !record.term().promoted {
            return None;
        }
        let report = self.hearing.report(&of).filter(|report| report.epoch == record.epoch)?;
        let wal = self.wal.as_ref().filter(|wal| record.kinship(wal) == Kinship::Follows)?;
        (wal.end.lsn < report.begins?).then_some((of, wal.end))
    }

    /// A copy has come to its end: how far its log goes, if it worked.
    pub(super) fn copied(&mut self, number: u64, to: Option<Lsn>) {
        let Stranded::Copying { number: awaited, of, epoch } = &self.stranded else { return };
        if *awaited != number {
            return;
        }
        self.stranded = match to {
            Some(to) => Stranded::Copied { of: of.clone(), epoch: *epoch, to },
            // Made again, where it still has to be.
            None => Stranded::Not,
        };
    }

    /// Whose copy is to take the place of what this node has. Never one whose age nobody knows: without the store
    /// the record may be of the past.
    pub(super) fn to_exchange(&self) -> Option<&NodeName> {
        let Stranded::Copied { of, .. } = &self.stranded else { return None };
        (self.desk.reachable() != Some(false)).then_some(of)
    }

    /// When a copy is due.
    pub(super) fn copy_due(&self, record: &Record) -> Option<Moment> {
        match &self.stranded {
            Stranded::Since(since, _) => Some(*since + record.pace.lease.patience()),
            Stranded::Not | Stranded::Copying { .. } | Stranded::Copied { .. } => None,
        }
    }
}
