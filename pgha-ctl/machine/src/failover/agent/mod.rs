//! What an agent decides: PostgreSQL's part on its node, the lease, and its own end.
//!
//! [`Event`] is what it is told, and [`Effect`] and [`Command`] what it asks for. [`role`] says what follows from what the record says of this node, as one table. [`lease`] renews, gives
//! up in time, and asks the members where the store is gone. [`voting`] changes the voters. [`crash`] says who goes on
//! after a crash, and [`claim`] when the writer VIP may be had. [`stranded`] brings a standby back whose primary has no
//! longer what it would stream next.

mod claim;
mod command;
mod crash;
mod event;
mod lease;
mod role;
mod stranded;
mod voting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

pub use command::{Command, Found, Kept, Outcome};
pub use event::{Config, Effect, Event};
pub use role::{Role, Standing};
pub use stranded::Stranded;

use self::claim::Claim;
use self::crash::Crash;
use self::lease::Holding;
use self::voting::Voting;
use super::desk::Desk;
use super::hearing::Hearing;
use super::message::{FrozenAt, Message, Report};
use super::record::Record;
use super::rules::Rules;
use crate::{Lsn, Moment, NodeName, Wal};

/// Before the record was read, it is tried as often as this, and everybody is told as often that this node
/// lives.
const UNTIL_READ: Duration = Duration::from_millis(100);
/// How long after a command that did not work it is given again.
const AGAIN: Duration = Duration::from_millis(200);
/// After so many commands in a row that did not work another node had better be the primary.
const FAILURES: u32 = 3;

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    name: NodeName,
    run: u64,
    controllers: BTreeSet<NodeName>,
    rules: Rules,
    desk: Desk,
    hearing: Hearing,
    kept: Kept,
    role: Role,
    /// The log, where its end is known.
    wal: Option<Wal>,
    /// What is under way.
    busy: Option<(u64, Command)>,
    commands: u64,
    /// When a command may be tried again.
    again: Option<Moment>,
    holding: Option<Holding>,
    /// Until when nothing is frozen and no epoch taken here, because the primary was granted to go on (S8).
    promised: Moment,
    voting: Voting,
    /// Nothing of PostgreSQL ran here then, last.
    ended: Moment,
    /// How often it was restarted in this term, and how often it may be.
    restarts: (u32, u32),
    /// Whether another node is to take over after a crash, where one can at once.
    hand_over: bool,
    /// PostgreSQL has ended as the primary, and nobody ordered it.
    crash: Crash,
    faulty: bool,
    /// So many commands in a row did not work.
    failures: u32,
    /// A command that changes from whom it streams did not work: nobody knows from whom it does.
    adrift: bool,
    /// PostgreSQL may fetch log from an archive.
    restores: bool,
    /// What is still there of the log of this node begins there.
    begins: Option<Lsn>,
    stranded: Stranded,
    /// How many copies were begun.
    copies: u64,
    /// The freeze that the record shows, and since when.
    suspected: Option<(u64, Moment)>,
    claim: Claim,
    told: Option<(Moment, Report)>,
    effects: VecDeque<Effect>,
}

impl Agent {
    /// An agent that begins at `now`, with what it kept and what it finds. What a former process of this node
    /// had begun has ended by then, or can have no effect any more: no command of it, no write to the disk and
    /// no request to PostgreSQL. A write to the store may be under way still, and PostgreSQL may come by itself to
    /// the end of what it was told: it comes up, reads its files, or leaves recovery (`tests/sim/src/driver.rs`).
    #[must_use]
    pub fn new(config: Config, kept: Kept, found: Found, now: Moment) -> Self {
        // What was promised before is not known any more.
        let promised = now + kept.promise();
        let mut agent = Self {
            name: config.name,
            run: config.run,
            controllers: config.controllers,
            rules: config.rules,
            desk: Desk::new(kept.seen, kept.progress, config.rules),
            hearing: Hearing::from(now),
            role: Role::Down,
            wal: None,
            busy: None,
            commands: 0,
            again: None,
            holding: None,
            promised,
            voting: Voting::default(),
            ended: now,
            restarts: (0, config.restarts),
            hand_over: config.hand_over,
            crash: Crash::None,
            faulty: false,
            failures: 0,
            adrift: false,
            restores: false,
            begins: None,
            stranded: Stranded::Not,
            copies: 0,
            suspected: None,
            claim: Claim::new(kept.lease.map(|_| promised)),
            told: None,
            effects: VecDeque::new(),
            kept,
        };
        agent.adopt(found);
        agent.advance(now);
        agent
    }

    /// A server that runs is taken over as it is.
    fn adopt(&mut self, found: Found) {
        match found {
            // What is left of a former start may neither be seen nor run on.
            Found::Nothing => self.kill(),
            Found::Standby { open, upstream, wal } => {
                self.wal = wal;
                self.role = match (self.kept.frozen, upstream) {
                    (Some(freeze), None) => Role::Frozen { freeze },
                    (_, upstream) => Role::Standby { upstream },
                };
                if !open {
                    self.kill();
                }
            }
            Found::Primary { open, admits, wal } => {
                let end = wal.end.lsn;
                self.wal = Some(wal);
                self.role = if admits { Role::Primary } else { Role::Restarted { end } };
                self.claim.wanted = admits;
                match open {
                    Some(until) => self.holding = Some(Holding::found(until, self.kept.lease)),
                    None => self.kill(),
                }
            }
        }
    }

    /// Takes in what happened at `now`, by the clock that goes on while the machine sleeps
    /// (CLOCK_BOOTTIME).
    pub fn handle(&mut self, now: Moment, event: Event) {
        match event {
            Event::Store(answer) => {
                if let Some((sent, record)) = self.desk.take(now, answer) {
                    self.confirmed(now, sent, &record);
                }
            }
            Event::Heard { from, message } => self.heard(now, from, message),
            Event::Ended { number, outcome } => {
                if let Some((_, command)) = self.busy.take_if(|(of, _)| *of == number) {
                    self.finished(now, command, outcome);
                }
            }
            Event::Gone => {
                if self.role != Role::Down || self.is_starting() {
                    if matches!(self.role, Role::Restarted { .. } | Role::Primary) {
                        self.crashed(now);
                    }
                    self.kill();
                }
            }
            Event::OutOfRecovery => {
                if self.is_unlicensed() {
                    self.kill();
                }
            }
            Event::GateClosed => {
                if self.role != Role::Down {
                    self.kill();
                }
            }
            Event::Faulty(faulty) => self.faulty = faulty,
            Event::Log(wal) => {
                // A log grows; only a rewind makes it shorter, and that says so.
                let grows = self.wal.as_ref().is_none_or(|known| known.end <= wal.end);
                if self.role != Role::Down && grows {
                    self.wal = Some(wal);
                }
            }
            Event::Restores(restores) => self.restores = restores,
            Event::Begins(lsn) => self.begins = Some(lsn),
            Event::Copied { number, to } => self.copied(number, to),
            Event::Standbys(standbys) => self.voting.streaming(standbys),
            Event::Doubts(doubts) => {
                let written = self.desk.record().map(|record| &record.doubts);
                self.voting.doubt(doubts, written);
            }
            Event::Tick => {}
        }
        self.advance(now);
    }

    /// What is to be done next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        let Some(record) = self.desk.record() else {
            let read = self.desk.due(UNTIL_READ).filter(|due| *due > now);
            let lease = self.holding.iter().filter_map(|holding| holding.due(now, None));
            return lease.chain([read.unwrap_or(now + UNTIL_READ)]).min();
        };
        let pace = &record.pace;
        let read = self.desk.due(pace.lease.renew_every()).unwrap_or(now + pace.heartbeat);
        let told = self.told.as_ref().map_or(now, |(told, _)| *told) + pace.heartbeat;
        let silent = self.hearing.due(now, record.members.keys(), pace);
        let lease = self.holding.as_ref().and_then(|holding| holding.due(now, Some(pace)));
        let voting = self.voting.due(self.patience(pace));
        let suspected = self.suspected.map(|(_, since)| since + pace.lease.patience());
        let own = [self.again, suspected, Some(self.promised), self.copy_due(record)];
        [Some(read), Some(told), silent, lease, voting]
            .into_iter()
            .chain(own)
            .flatten()
            .chain(self.claim.due())
            .filter(|due| *due > now)
            .min()
    }

    /// PostgreSQL's part.
    #[must_use]
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// The log of this node, where its end is known.
    #[must_use]
    pub const fn wal(&self) -> Option<&Wal> {
        self.wal.as_ref()
    }

    /// What the record says of this node.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing::of(&self.name, self.desk.record())
    }

    /// The record, as it was read last.
    #[must_use]
    pub const fn record(&self) -> Option<&Record> {
        self.desk.record()
    }

    fn heard(&mut self, now: Moment, from: NodeName, message: Message) {
        match message {
            Message::Report(report) => {
                if let Some(seen) = report.seen {
                    self.desk.outdated_by(seen);
                }
                self.hearing.note(now, from, report);
            }
            Message::Ask { epoch, run, number } => self.asked(now, from, epoch, run, number),
            Message::Grant { epoch, run, number } => self.granted(&from, epoch, run, number),
            Message::CatchUp { epoch, freeze, from } => self.catch_up(epoch, freeze, from),
            Message::Clear => {
                if self.obeys(&from) {
                    self.restarts.0 = 0;
                    self.failures = 0;
                }
            }
        }
    }

    /// Whether that is a controller, who may say what operators order.
    #[must_use]
    pub fn obeys(&self, from: &NodeName) -> bool {
        self.controllers.contains(from)
    }

    fn advance(&mut self, now: Moment) {
        self.look(now);
        self.keep_lease(now);
        self.see_whether_stranded(now);
        self.step(now);
        self.wish(now);
        self.write(now);
        self.claim(now);
        self.tell(now);
        let every = self.desk.record().map_or(UNTIL_READ, |record| {
            let pace = &record.pace;
            if self.desk.reachable() == Some(false) {
                pace.heartbeat
            } else {
                pace.lease.renew_every()
            }
        });
        if let Some(request) = self.desk.poll(now, every) {
            self.effects.push_back(Effect::Store(request));
        }
    }

    /// Puts what is most urgent of what this node has to write.
    fn write(&mut self, now: Moment) {
        if !self.desk.is_ready() {
            return;
        }
        let Some(record) = self.desk.record() else { return };
        let flushed = self.wal.as_ref().map_or(Lsn::new(0), |wal| wal.end.lsn);
        // Whatever the holder writes renews its lease: an observer counts from the renewal that it saw.
        let renewed = |next: Record| next.renew(&self.name, self.run, flushed).ok();
        let next = self
            .to_take(now, record)
            .or_else(|| self.to_release(record))
            .or_else(|| self.to_thaw(now, record).and_then(renewed))
            .or_else(|| self.to_promote(record).and_then(renewed))
            .or_else(|| self.to_doubt(record).and_then(renewed))
            .or_else(|| self.to_vote(now, record).and_then(renewed))
            .or_else(|| self.to_renew(now, record).and_then(renewed));
        if let Some(next) = next {
            self.put(now, next);
        }
    }

    /// Notes what the record says for the first time.
    fn look(&mut self, now: Moment) {
        let Some(record) = self.desk.record() else { return };
        match (record.freeze.as_ref().map(|freeze| freeze.number), self.suspected) {
            (Some(number), Some((before, _))) if number == before => {}
            (freeze, _) => self.suspected = freeze.map(|number| (number, now)),
        }
        self.claim.look(now, record);
    }

    /// The writer VIP is here, once nobody else can have it.
    fn claim(&mut self, now: Moment) {
        let Some(record) = self.desk.record() else { return };
        let holder = record.holder() == Some(&self.name);
        let free = || self.claim.is_free(now, &self.name, &self.hearing);
        if self.claim.wanted && holder && self.role == Role::Primary && free() {
            self.claim.wanted = false;
            self.effects.push_back(Effect::Claim(record.epoch));
        }
    }

    /// Tells everybody how it is here, when that has changed or is due.
    fn tell(&mut self, now: Moment) {
        let Some(record) = self.desk.record() else { return };
        let pace = record.pace;
        let frozen = match self.role {
            Role::Frozen { freeze } => Some(FrozenAt { freeze, wal: self.wal.clone() }),
            Role::Down => self.stopped_for_good(),
            Role::Standby { .. } | Role::Restarted { .. } | Role::Primary => None,
        };
        let report = Report {
            epoch: record.epoch.max(self.kept.progress.epoch),
            seen: self.desk.seen().map(|mark| mark.revision),
            silent: self.hearing.silent(
                now,
                record.members.keys().filter(|n| **n != self.name),
                &pace,
            ),
            fault: self.cannot_go_on(record),
            faulty: self.faulty,
            restores: self.restores,
            failsafe: self.goes_on_alone(),
            frozen,
            ended: !self.writes() && !self.is_ending(),
            begins: self.begins,
        };
        let due = self.told.as_ref().is_none_or(|(told, before)| {
            // Neither is worth a word of its own.
            let (seen, ended) = (report.seen, report.ended);
            let changed = Report { seen, ended, ..before.clone() } != report;
            changed || now.since(*told) >= pace.heartbeat
        });
        if !due {
            return;
        }
        self.told = Some((now, report.clone()));
        for to in record.members.keys().filter(|node| **node != self.name).chain(&self.controllers)
        {
            let message = Message::Report(report.clone());
            self.effects.push_back(Effect::Send { to: to.clone(), message });
        }
    }

    /// What was left in the middle of a rewind streams from nobody. It had diverged from the cluster of this epoch
    /// and has followed nobody since, so that nothing was acknowledged by it that others would need.
    fn stopped_for_good(&self) -> Option<FrozenAt> {
        let freeze = self.kept.frozen.filter(|_| self.kept.rewinding && self.busy.is_none())?;
        Some(FrozenAt { freeze, wal: Some(Wal::nothing()) })
    }

    fn order(&mut self, command: Command) {
        if matches!(command, Command::UseVoters(_)) {
            // From here on it may be using either set, until it says so.
            self.voting.uses_nothing_for_certain();
        }
        if matches!(command, Command::Restart { .. }) && self.crash.take() {
            // One that never comes up is no reason to wait for it for ever.
            self.restarts.0 += 1;
        }
        if matches!(command, Command::Rewind { .. } | Command::Exchange { .. }) {
            // It ends what runs, before anything else.
            self.role = Role::Down;
        }
        self.commands += 1;
        self.busy = Some((self.commands, command.clone()));
        self.effects.push_back(Effect::Do { number: self.commands, command });
    }

    /// Ends PostgreSQL, whatever else is under way.
    fn kill(&mut self) {
        if !self.is_ending() {
            self.holding = self.holding.take().map(Holding::given_up);
            self.claim.wanted = false;
            self.voting = Voting::default();
            self.order(Command::Kill);
        }
    }

    const fn is_starting(&self) -> bool {
        matches!(self.busy, Some((_, Command::Start | Command::Restart { .. })))
    }

    const fn is_ending(&self) -> bool {
        matches!(self.busy, Some((_, Command::Kill)))
    }
}
