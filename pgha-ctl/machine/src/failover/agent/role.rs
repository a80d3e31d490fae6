//! What PostgreSQL is on this node, and what follows from what the record says of it.
//!
//! ```text
//!            Start                       StopStreaming                  take, Promote
//!   down ------------> standby ----------------------------> frozen ------------------+
//!    ^ \                 ^  ^                                  |                       |
//!    |  \ Restart (S7)   |  +----------------------------------+                       v
//!    |   +-----> restarted        thawed, or another epoch                          primary
//!    |               |    Admit                                                        |
//!    |               +-----------------------------------------------------------------+
//!    |                                     Kill                                        |
//!    +---------------------------------------------------------------------------------+
//! ```

use super::crash::Crash;
use super::{AGAIN, Agent, Command, Kept, Outcome};
use crate::failover::record::{Kinship, Lease, Record};
use crate::failover::rules::Rule;
use crate::{Epoch, Lsn, Moment, NodeName, Position, Wal};

/// So many renewals may go by before how far the record has come is written to the disk again.
const KEEP_EVERY: u64 = 64;

/// What PostgreSQL is on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Nothing runs.
    Down,
    /// It is in recovery, and may stream.
    Standby {
        /// From whom.
        upstream: Option<NodeName>,
    },
    /// It is in recovery and streams from nobody, for a freeze. That is on disk.
    Frozen {
        /// Which.
        freeze: u64,
    },
    /// It is out of recovery after a crash, and admits no client yet (S7).
    Restarted {
        /// Where its log ended after recovery.
        end: Lsn,
    },
    /// It is out of recovery and admits clients.
    Primary,
}

/// What the record says of this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing: it was not read, or this node is no member.
    Unknown,
    /// It holds the lease, and nobody is nominated.
    Holder,
    /// It may take the next epoch.
    Nominee {
        /// In which freeze.
        freeze: u64,
    },
    /// The primary is suspected, or was before this node ended itself.
    Suspended {
        /// In which freeze.
        freeze: u64,
    },
    /// Another node is the primary.
    Follower {
        /// Which.
        of: NodeName,
    },
}

impl Standing {
    /// What a record says of a node.
    #[must_use]
    pub fn of(node: &NodeName, record: Option<&Record>) -> Self {
        let Some(record) = record.filter(|record| record.concerns(node)) else {
            return Self::Unknown;
        };
        let freeze = record.freezes;
        match (&record.lease, &record.freeze, &record.nomination) {
            (_, _, Some(nomination)) if nomination.node == *node => Self::Nominee { freeze },
            (_, _, Some(_)) => Self::Suspended { freeze },
            (Lease::Held { by, .. }, _, None) if by == node => Self::Holder,
            (_, Some(_), None) | (Lease::Released { .. }, None, None) => Self::Suspended { freeze },
            (Lease::Held { by, .. }, None, None) => Self::Follower { of: by.clone() },
        }
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Nothing, or nothing but what is written to the record.
    Stay,
    /// This.
    Do(Command),
    /// Write that this node stops for a freeze, then stop.
    Freeze(u64),
    /// It was stopped for another freeze: for this one it is too.
    Refreeze(u64),
    /// The freeze is over: forget it, then stream.
    Thaw,
}

impl Agent {
    /// Does what follows, where nothing is under way.
    pub(super) fn step(&mut self, now: Moment) {
        // A command that must not wait for another.
        let standing = Standing::of(&self.name, self.desk.record());
        if self.must_end(&standing) {
            self.kill();
        }
        if self.again.is_some_and(|again| now < again) {
            return;
        }
        if self.again.take().is_some() && self.is_ending() {
            self.order(Command::Kill);
        }
        if self.busy.is_some() {
            return;
        }
        match self.next(now, &standing) {
            Step::Stay => {
                if let Some(kept) = self.to_keep(self.kept.frozen) {
                    self.order(Command::Keep(kept));
                }
            }
            Step::Do(command) => self.order(command),
            Step::Freeze(freeze) => match self.to_keep(Some(freeze)) {
                Some(kept) => self.order(Command::Keep(kept)),
                None => self.order(Command::StopStreaming),
            },
            Step::Refreeze(freeze) => match self.to_keep(Some(freeze)) {
                Some(kept) => self.order(Command::Keep(kept)),
                None => self.role = Role::Frozen { freeze },
            },
            Step::Thaw => match self.to_keep(None) {
                Some(kept) => self.order(Command::Keep(kept)),
                None => {
                    self.role = Role::Standby { upstream: None };
                    self.step(now);
                }
            },
        }
    }

    /// Whether PostgreSQL is out of recovery, or on its way, without this node holding the lease.
    fn must_end(&self, standing: &Standing) -> bool {
        let promoting =
            matches!(self.busy, Some((_, Command::Promote { .. } | Command::Restart { .. })));
        let writes = promoting || matches!(self.role, Role::Restarted { .. } | Role::Primary);
        let deposed = match standing {
            Standing::Nominee { .. } => self.rules.hold(Rule::S1),
            Standing::Suspended { .. } | Standing::Follower { .. } => true,
            Standing::Unknown | Standing::Holder => false,
        };
        let relieved = self.desk.record().is_some_and(|record| self.is_relieved(record));
        writes && (deposed || relieved || self.faulty)
    }

    /// Whether nobody who is out of recovery here was promoted by this agent (S1).
    pub(super) fn is_unlicensed(&self) -> bool {
        use Command::{Promote, Restart};
        let promoting = matches!(self.busy, Some((_, Promote { .. } | Restart { .. })));
        !promoting && matches!(self.role, Role::Down | Role::Standby { .. } | Role::Frozen { .. })
    }

    /// The table: what follows from what PostgreSQL is and what the record says.
    pub(super) fn next(&self, now: Moment, standing: &Standing) -> Step {
        match (&self.role, standing) {
            (Role::Down, Standing::Unknown | Standing::Follower { .. }) if self.kept.rewinding => {
                self.rewind(standing)
            }
            (Role::Down, Standing::Unknown) => Step::Do(Command::Start),
            (Role::Down, Standing::Holder) => self.restart(),
            (Role::Down, Standing::Nominee { freeze } | Standing::Suspended { freeze }) => {
                match self.to_keep(Some(*freeze)).filter(|_| !self.has_promised(now)) {
                    Some(kept) => Step::Do(Command::Keep(kept)),
                    None if self.kept.rewinding => Step::Stay,
                    None => Step::Do(Command::Start),
                }
            }
            (Role::Down, Standing::Follower { .. }) => Step::Do(Command::Start),

            (Role::Standby { .. }, Standing::Unknown) => Step::Stay,
            (Role::Standby { .. }, Standing::Holder) => self.resume(),
            (
                Role::Standby { .. },
                Standing::Nominee { freeze } | Standing::Suspended { freeze },
            ) => {
                if self.has_promised(now) {
                    Step::Stay
                } else {
                    Step::Freeze(*freeze)
                }
            }
            (Role::Standby { upstream }, Standing::Follower { of }) => {
                self.follow(upstream.as_ref(), of)
            }

            (Role::Frozen { .. }, Standing::Unknown) => Step::Stay,
            (Role::Frozen { .. }, Standing::Holder) => self.promote(),
            (
                Role::Frozen { freeze: before },
                Standing::Nominee { freeze } | Standing::Suspended { freeze },
            ) => {
                if before != freeze {
                    Step::Refreeze(*freeze)
                } else if !self.rules.hold(Rule::S1) && self.is_taking() {
                    self.promote()
                } else {
                    Step::Stay
                }
            }
            (Role::Frozen { .. }, Standing::Follower { .. }) => Step::Thaw,

            (Role::Restarted { .. }, Standing::Unknown) => Step::Stay,
            (Role::Restarted { end }, Standing::Holder) => self.admit(now, *end),
            (Role::Primary, Standing::Unknown) => Step::Stay,
            (Role::Primary, Standing::Holder) => self.use_voters(now),
            (
                Role::Restarted { .. } | Role::Primary,
                Standing::Nominee { .. } | Standing::Suspended { .. } | Standing::Follower { .. },
            ) => Step::Do(Command::Kill),
        }
    }

    /// PostgreSQL ended while this node holds the lease: it is started again, or the lease is given back.
    fn restart(&self) -> Step {
        let Some(record) = self.desk.record() else { return Step::Stay };
        if self.gives_back(record) {
            // The lease is given back.
            return Step::Stay;
        }
        // It took the epoch and was not promoted, as far as is known.
        if !record.term().promoted && !self.has_timeline_of(record) {
            return Step::Do(Command::Start);
        }
        // A renewal from before it ended says nothing (S7).
        let renewed = self.holding.as_ref().is_some_and(|held| held.renewed_since(self.ended));
        if renewed || !self.rules.hold(Rule::S7) {
            Step::Do(Command::Restart { voters: record.voters.wanted().clone() })
        } else {
            Step::Stay
        }
    }

    /// A standby that holds the lease: it took the epoch before its agent was restarted. One that was the
    /// primary already was started by somebody else.
    fn resume(&self) -> Step {
        let Some(record) = self.desk.record() else { return Step::Stay };
        let ends = record.term().promoted || self.gives_back(record);
        if ends { Step::Do(Command::Kill) } else { Step::Do(Command::StopStreaming) }
    }

    fn follow(&self, upstream: Option<&NodeName>, primary: &NodeName) -> Step {
        let Some(record) = self.desk.record() else { return Step::Stay };
        if self.adrift {
            return Step::Do(Command::StopStreaming);
        }
        let diverged =
            |wal: &Wal| self.rules.hold(Rule::S6) && record.kinship(wal) == Kinship::Diverged;
        if upstream == Some(primary) && !self.wal.as_ref().is_some_and(diverged) {
            // The freeze was over before it stopped for it.
            return match (self.to_keep(None), self.to_exchange()) {
                (Some(kept), _) => Step::Do(Command::Keep(kept)),
                (None, Some(of)) => Step::Do(Command::Exchange { from: of.clone() }),
                (None, None) => Step::Stay,
            };
        }
        if !record.term().promoted {
            return Step::Stay;
        }
        if upstream.is_some() {
            // What it goes on receiving may lie beyond the fork.
            return Step::Do(Command::StopStreaming);
        }
        let Some(wal) = &self.wal else { return Step::Stay };
        if diverged(wal) {
            // A directory that is half of something is never started.
            return Step::Do(if self.kept.rewinding {
                Command::Rewind { from: primary.clone() }
            } else {
                Command::Keep(self.known(record, None, true))
            });
        }
        match self.to_keep(None) {
            Some(kept) => Step::Do(Command::Keep(kept)),
            None => Step::Do(Command::Follow { of: primary.clone(), epoch: record.epoch }),
        }
    }

    /// A rewind that was begun is ended, before anything else is done with the directory.
    fn rewind(&self, standing: &Standing) -> Step {
        match (standing, self.desk.record()) {
            (Standing::Follower { of }, Some(record)) if record.term().promoted => {
                Step::Do(Command::Rewind { from: of.clone() })
            }
            _ => Step::Stay,
        }
    }

    /// The epoch is taken: the gate is armed, and PostgreSQL promoted.
    fn promote(&self) -> Step {
        let Some(record) = self.desk.record() else { return Step::Stay };
        // It was promoted before a crash: PostgreSQL would begin yet another timeline.
        let promoted = record.term().promoted || self.has_timeline_of(record);
        if promoted || self.gives_back(record) {
            return Step::Do(Command::Kill);
        }
        if self.wal.is_none() {
            return Step::Stay;
        }
        if self.rules.hold(Rule::S1) && !self.holding.as_ref().is_some_and(super::Holding::lasts) {
            return Step::Stay;
        }
        let timeline = record.term().timeline;
        Step::Do(Command::Promote { timeline, voters: record.voters.wanted().clone() })
    }

    /// Whether this node's log is on the timeline of the present term.
    fn has_timeline_of(&self, record: &Record) -> bool {
        self.wal.as_ref().is_some_and(|wal| wal.end.timeline == record.term().timeline)
    }

    /// After a crash no client may see what only this node has (S7).
    fn admit(&self, now: Moment, end: Lsn) -> Step {
        let Some(record) = self.desk.record() else { return Step::Stay };
        let has = |node: &NodeName| self.voting.has(node, end);
        let seen = record.voters.sets.iter().all(|set| set.acknowledged_by(has));
        if seen || !self.rules.hold(Rule::S7) {
            Step::Do(Command::Admit)
        } else {
            self.use_voters(now)
        }
    }

    /// What is to be on disk, where that is something else than what is.
    fn to_keep(&self, frozen: Option<u64>) -> Option<Kept> {
        let record = self.desk.record()?;
        // A server that runs has come to the end of it.
        let rewinding = self.kept.rewinding && self.role == Role::Down;
        let wanted = self.known(record, frozen, rewinding);
        let (kept, known) = (&self.kept.progress, &wanted.progress);
        let progress = kept.epoch != known.epoch || known.renewal >= kept.renewal + KEEP_EVERY;
        let rest = |kept: &Kept| (kept.frozen, kept.rewinding, kept.lease);
        (progress || rest(&self.kept) != rest(&wanted)).then_some(wanted)
    }

    /// What is known by now.
    fn known(&self, record: &Record, frozen: Option<u64>, rewinding: bool) -> Kept {
        Kept {
            seen: self.desk.seen(),
            progress: record.progress(),
            frozen,
            rewinding,
            lease: Some(record.pace.lease),
        }
    }

    pub(super) fn catch_up(&mut self, epoch: Epoch, freeze: u64, from: NodeName) {
        let current = self.desk.record().is_some_and(|record| record.epoch == epoch);
        let frozen = current && self.role == (Role::Frozen { freeze });
        let source = self.hearing.report(&from).and_then(|report| report.frozen.clone());
        let to = source.filter(|at| at.freeze == freeze).and_then(|at| at.wal);
        if let Some(to) = to.filter(|_| frozen && self.busy.is_none()) {
            self.order(Command::CatchUp { from, to: to.end });
        }
    }

    /// A command has ended.
    pub(super) fn finished(&mut self, now: Moment, command: Command, outcome: Outcome) {
        match (&command, &outcome) {
            // A set of voters that cannot be set is no reason for another primary.
            (Command::UseVoters(_), Outcome::Failed) | (Command::Kill, _) => {}
            (_, Outcome::Failed) => self.failures += 1,
            (_, _) => self.failures = 0,
        }
        match (command, outcome) {
            (Command::Keep(kept), Outcome::Done) => self.kept = kept,
            (
                Command::Start
                | Command::Rewind { .. }
                | Command::Exchange { .. }
                | Command::StopStreaming
                | Command::CatchUp { .. },
                Outcome::Stopped(wal),
            ) => {
                self.wal = wal;
                self.role = self.stopped();
                self.adrift = false;
            }
            (Command::Follow { of, .. }, Outcome::Done) => {
                self.role = Role::Standby { upstream: Some(of) };
            }
            (Command::Promote { voters, .. }, Outcome::Promoted(fork)) => {
                self.role = Role::Primary;
                self.voting.promoted(voters, fork);
                self.restarts.0 = 0;
                self.crash = Crash::None;
                self.claim.wanted = true;
            }
            (Command::Restart { voters }, Outcome::Flushed(end)) => {
                self.role = Role::Restarted { end };
                self.voting.uses(voters, end);
            }
            (Command::Admit, Outcome::Done) => {
                self.role = Role::Primary;
                self.claim.wanted = true;
            }
            (Command::UseVoters(voters), Outcome::Flushed(lsn)) => self.voting.uses(voters, lsn),
            (Command::Kill, Outcome::Killed) => {
                self.role = Role::Down;
                self.ended = now;
            }
            (Command::Kill, _) => {
                // Nothing else may be done before it has worked.
                self.busy = Some((self.commands, Command::Kill));
                self.again = Some(now + AGAIN);
            }
            (Command::Start | Command::Rewind { .. } | Command::Exchange { .. }, _) => {
                self.end_before_again(now);
            }
            (Command::Restart { .. }, _) => {
                // As good as another crash.
                self.crashed(now);
                self.end_before_again(now);
            }
            (Command::StopStreaming | Command::CatchUp { .. } | Command::Follow { .. }, _) => {
                self.adrift = true;
                self.role = Role::Standby { upstream: None };
                self.again = Some(now + AGAIN);
            }
            (
                Command::Keep(_) | Command::Promote { .. } | Command::Admit | Command::UseVoters(_),
                _,
            ) => self.again = Some(now + AGAIN),
        }
    }

    /// A server may run, as nobody knows what.
    fn end_before_again(&mut self, now: Moment) {
        self.kill();
        self.again = Some(now + AGAIN);
    }

    /// What a standby is that streams from nobody.
    const fn stopped(&self) -> Role {
        match self.kept.frozen {
            Some(freeze) => Role::Frozen { freeze },
            None => Role::Standby { upstream: None },
        }
    }

    /// Where the new timeline begins, as far as this node knows.
    pub(super) fn fork(&self, record: &Record) -> Option<Position> {
        let known = self.voting.fork();
        let of_log = || {
            let wal = self.wal.as_ref()?;
            let ours = wal.end.timeline == record.term().timeline;
            wal.left.last().copied().filter(|_| ours)
        };
        known.or_else(of_log)
    }
}
