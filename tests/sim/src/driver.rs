//! What the driver of an agent does: the commands that are under way, and what comes of them.
//!
//! What the core may rely on, and no more, is the *contract of the driver*:
//!
//! - A command has a beginning (files are written, what runs is ended, the gate is armed) and an end. One that
//!   fails may have done nothing, its beginning, or all of it; or PostgreSQL does the rest later, by itself.
//! - Start, Restart and Rewind first end whatever of PostgreSQL runs, as Kill does. Kill first closes the gate.
//! - Before a new process of the agent begins, what the former one was doing has ended or been killed: a file is
//!   written or not, a rewind is complete or leaves a data directory of which nothing may be started. What
//!   PostgreSQL does by itself may come to its end any time later, unless PostgreSQL is ended: it comes up, it
//!   reads its files, it leaves recovery. So does a kill that has begun.
//! - A copy of another node's data directory is made beside this node's while commands come and go. It has what was
//!   flushed there when it was begun, or more. An exchange stops PostgreSQL and has the copy take the place of the data
//!   directory; where that is interrupted, the next start ends it first.
//! - What is found is said to stream from where it streams *or* would stream if it read its files.

use pgha_machine::failover::agent::{Command, Event, Outcome};
use pgha_machine::{Epoch, Lsn, Moment};

use crate::breach::Breach;
use crate::clock::Time;
use crate::oracle::Violation;
use crate::postgres::{Postgres, State};
use crate::world::{Occurrence, World};

/// A command under way.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    number: u64,
    command: Command,
    /// What the record said and the gate was armed for when it was ordered.
    epoch: Epoch,
    armed: Moment,
    fate: Fate,
    begun: bool,
    worked: bool,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Works,
    /// It fails before it has done anything, after its beginning, or when all is done.
    FailsAtOnce,
    FailsHalfway,
    FailsAtTheEnd,
    /// It is given up, and PostgreSQL does it later.
    FailsFirst,
}

/// What PostgreSQL does by itself.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    command: Command,
    epoch: Epoch,
    armed: Moment,
    life: u64,
}

impl World {
    /// How long something takes: mostly moments, sometimes several leases.
    pub(crate) fn a_while(&mut self) -> Time {
        if self.calm {
            return self.rng.u64(1..60);
        }
        let most = match self.rng.u8(0..40) {
            0 => 3_500,
            1..=5 => 600,
            _ => 60,
        };
        self.rng.u64(1..most)
    }

    /// Something is to be done to PostgreSQL; what was under way is left.
    pub(crate) fn order(&mut self, node: usize, run: u64, number: u64, command: Command) {
        self.say(|| format!("n{node}: {number} {command:?}"));
        let fate = match self.rng.u8(0..160) {
            _ if self.calm => Fate::Works,
            0 => Fate::FailsAtOnce,
            1 => Fate::FailsHalfway,
            2 => Fate::FailsAtTheEnd,
            3 => Fate::FailsFirst,
            _ => Fate::Works,
        };
        let of = &mut self.nodes[node];
        let epoch = of.agent.as_ref().and_then(|agent| Some(agent.record()?.epoch));
        let epoch = epoch.unwrap_or_default();
        let armed = of.armed.unwrap_or_default();
        let under_way =
            UnderWay { number, command, epoch, armed, fate, begun: false, worked: false };
        if let Some(left) = of.under_way.replace(under_way) {
            self.abandon(node, &left);
        }
        let takes = self.a_while();
        let begins = self.rng.u64(0..takes.min(20));
        let ends = self.rng.u64(begins..takes);
        self.after(begins, Occurrence::Begin { node, run, number });
        self.after(ends, Occurrence::Apply { node, run, number });
        self.after(takes, Occurrence::Report { node, run, number });
    }

    /// The command, if it is still under way; `None` also where it has to wait.
    fn under_way(
        &mut self,
        node: usize,
        run: u64,
        number: u64,
        then: Occurrence,
    ) -> Option<UnderWay> {
        let now = self.now;
        let of = &mut self.nodes[node];
        let this = of.under_way.clone().filter(|this| this.number == number && of.run == run)?;
        // PostgreSQL does not stand still with the agent.
        let alone = matches!(then, Occurrence::Apply { .. }) && Postgres::goes_on(&this.command);
        let until = if alone && this.begun { of.halted } else { of.paused.max(of.halted) };
        if until > now {
            // In the order in which they come.
            let after_the_beginning = u64::from(!matches!(then, Occurrence::Begin { .. }));
            let last = u64::from(matches!(then, Occurrence::Report { .. }));
            let later = after_the_beginning + last;
            self.at(until + later, then);
            return None;
        }
        (!of.off).then_some(this)
    }

    pub(crate) fn begin_command(&mut self, node: usize, run: u64, number: u64) {
        let then = Occurrence::Begin { node, run, number };
        let Some(this) = self.under_way(node, run, number, then) else { return };
        if this.fate == Fate::FailsAtOnce {
            return;
        }
        let source = if let Command::Follow { of: from, .. } | Command::CatchUp { from, .. } =
            &this.command
        {
            self.process_of(from)
        } else {
            None
        };
        // A rewind stops nothing before it has found whom to take from.
        if let Command::Rewind { from } = &this.command
            && self.source(node, from).is_none()
        {
            return;
        }
        if matches!(
            this.command,
            Command::Start
                | Command::Restart { .. }
                | Command::Rewind { .. }
                | Command::Exchange { .. }
                | Command::Kill
        ) {
            self.lose_some(node);
        }
        let of = &mut self.nodes[node];
        if self.plan.breach != Some(Breach::EarlyEnd) || this.command != Command::Kill {
            of.postgres.begin(&this.command, source, this.armed);
        }
        if this.command == Command::Kill && self.plan.breach != Some(Breach::KeptAddress) {
            of.address = false;
        }
        of.under_way = Some(UnderWay { begun: true, ..this });
        self.announced(node);
    }

    pub(crate) fn apply(&mut self, node: usize, run: u64, number: u64) {
        let then = Occurrence::Apply { node, run, number };
        let Some(this) = self.under_way(node, run, number, then) else { return };
        if this.begun && matches!(this.fate, Fate::Works | Fate::FailsAtTheEnd) {
            // The gate may have been armed for longer since.
            let armed = self.nodes[node].armed.unwrap_or_default().max(this.armed);
            let worked =
                self.pretends(&this.command) || self.finish(node, &this.command, this.epoch, armed);
            self.nodes[node].under_way = Some(UnderWay { worked, ..this });
        }
    }

    /// Whether a command is said to be done and is not, in a world that breaks its word.
    fn pretends(&self, command: &Command) -> bool {
        matches!(
            (self.plan.breach, command),
            (Some(Breach::EarlyVoters), Command::UseVoters(_))
                | (Some(Breach::Forgets), Command::Keep(_))
                | (Some(Breach::EarlyStop), Command::StopStreaming)
                | (Some(Breach::EarlyEnd), Command::Kill)
        )
    }

    pub(crate) fn report(&mut self, node: usize, run: u64, number: u64) {
        let then = Occurrence::Report { node, run, number };
        let Some(this) = self.under_way(node, run, number, then) else { return };
        self.nodes[node].under_way = None;
        if this.fate == Fate::FailsFirst && this.begun {
            self.goes_on(node, &this);
        }
        let worked = this.worked && this.fate == Fate::Works;
        let streams_no_more = matches!(
            this.command,
            Command::Start
                | Command::StopStreaming
                | Command::CatchUp { .. }
                | Command::Exchange { .. }
                | Command::Rewind { .. }
        );
        let known = worked && streams_no_more && self.rng.bool();
        let mut outcome = self.nodes[node].postgres.outcome(&this.command, worked, known);
        if let (Some(Breach::LongLog), Outcome::Stopped(Some(wal))) =
            (self.plan.breach, &mut outcome)
        {
            wal.end.lsn = Lsn::new(wal.end.lsn.bytes() + 30);
        }
        self.say(|| format!("n{node}: {outcome:?} of {number}"));
        self.agent_hears(node, run, Event::Ended { number, outcome });
    }

    /// Nobody waits any more for a command that is under way.
    pub(crate) fn abandon(&mut self, node: usize, this: &UnderWay) {
        if this.worked || self.nodes[node].off {
            return;
        }
        if let Command::Keep(_) = &this.command {
            if self.rng.bool() {
                self.finish(node, &this.command, this.epoch, this.armed);
            }
        } else if this.begun && self.rng.u8(0..4) > 0 {
            self.goes_on(node, this);
        }
    }

    /// PostgreSQL does the rest by itself, some time.
    fn goes_on(&mut self, node: usize, this: &UnderWay) {
        if !Postgres::goes_on(&this.command) {
            return;
        }
        let UnderWay { command, epoch, armed, .. } = this.clone();
        let late = Late { command, epoch, armed, life: self.nodes[node].postgres.life };
        let delay = self.a_while();
        self.after(delay, Occurrence::Late { node, late });
    }

    pub(crate) fn come_late(&mut self, node: usize, late: Late) {
        let of = &self.nodes[node];
        if of.off || of.postgres.life != late.life {
            return;
        }
        if of.halted > self.now {
            self.at(of.halted, Occurrence::Late { node, late });
            return;
        }
        self.say(|| format!("n{node}: at last {:?}", late.command));
        self.finish(node, &late.command, late.epoch, late.armed);
    }

    /// PostgreSQL ends: what it had written the kernel has, or not.
    pub(crate) fn lose_some(&mut self, node: usize) {
        let kept = self.rng.usize(0..4);
        self.nodes[node].postgres.lose(kept);
    }

    /// The end of a command that has begun; whether it worked.
    fn finish(&mut self, node: usize, command: &Command, epoch: Epoch, armed: Moment) -> bool {
        let now = self.now;
        if self.nodes[node].postgres.torn
            && matches!(
                command,
                Command::Start | Command::Restart { .. } | Command::Exchange { .. }
            )
        {
            self.check(Err(Violation::Torn { node }));
        }
        let postgres = &mut self.nodes[node].postgres;
        let worked = postgres.finish(command, epoch, armed);
        if self.plan.breach == Some(Breach::EarlyClients)
            && matches!(command, Command::Restart { .. })
        {
            postgres.files.admits = true;
            postgres.reload();
        }
        match command {
            Command::Keep(kept) => self.nodes[node].kept = kept.clone(),
            Command::CatchUp { from, .. } => return self.catch_up(node, from),
            Command::Follow { of, .. } => return self.follow(node, of),
            Command::Rewind { from } => return self.rewind(node, from),
            Command::Promote { .. } if worked => {
                self.announced(node);
                self.opened(node);
            }
            Command::UseVoters(_) | Command::Restart { .. } => {
                self.announced(node);
                self.acknowledge(node, now);
            }
            Command::Admit
            | Command::Start
            | Command::Exchange { .. }
            | Command::StopStreaming
            | Command::Promote { .. }
            | Command::Kill => {}
        }
        worked
    }

    /// The primary that a node is rewound to, where it can be reached.
    fn source(&self, node: usize, from: &pgha_machine::NodeName) -> Option<usize> {
        let of = self.other(node, from)?;
        matches!(self.nodes[of].postgres.state, State::Primary { .. }).then_some(of)
    }

    pub(crate) fn other(&self, node: usize, name: &pgha_machine::NodeName) -> Option<usize> {
        let other = self.process_of(name)?;
        (self.reaches(node, other) && !self.nodes[other].off).then_some(other)
    }

    fn follow(&mut self, node: usize, primary: &pgha_machine::NodeName) -> bool {
        let Some(of) = self.process_of(primary) else { return false };
        let (own, other) = (&self.nodes[node].postgres, &self.nodes[of].postgres);
        if own.state != State::Standby {
            return false;
        }
        let writes = matches!(other.state, State::Primary { .. });
        let current = self.store.record();
        let newest = current.holder() == Some(primary) && other.epoch == current.epoch;
        if writes && newest && !own.log.begins(&other.log) {
            self.say(|| {
                format!(
                    "{:?} {:?}",
                    self.nodes[node].postgres.log.wal(),
                    self.nodes[of].postgres.log.wal()
                )
            });
            self.check(Err(Violation::Diverged { node }));
        }
        true
    }

    fn rewind(&mut self, node: usize, from: &pgha_machine::NodeName) -> bool {
        let Some(of) = self.source(node, from) else { return false };
        let log = self.nodes[of].postgres.log.clone();
        self.nodes[node].postgres.rewind_to(&log);
        true
    }

    fn catch_up(&mut self, node: usize, from: &pgha_machine::NodeName) -> bool {
        // It streams until it is told to stop.
        self.nodes[node].postgres.reload();
        let Some(of) = self.other(node, from) else { return false };
        let source = &self.nodes[of].postgres;
        if source.state == State::Down || self.nodes[node].postgres.state != State::Standby {
            return false;
        }
        if self.nodes[node].postgres.log.len() < source.begins {
            return false;
        }
        let log = source.log.clone();
        let own = &mut self.nodes[node].postgres;
        own.catch_up_with(&log);
        own.files.conninfo = None;
        own.reload();
        true
    }
}
