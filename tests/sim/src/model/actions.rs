//! What can happen next in a state, and what it leads to.

use std::collections::BTreeMap;
use std::time::Duration;

use pgha_machine::failover::agent::Event;
use pgha_machine::failover::coordinator;
use pgha_machine::failover::{Answer, Request};
use pgha_machine::{Lsn, Moment, NodeName, Wal};

use super::case::{Case, Fault, Trouble, Window};
use super::state::{Asked, Process, Reply, State};
use crate::oracle::Violation;
use crate::postgres::{State as Runs, Waiting};
use crate::world::node_name;

/// How often a process writes to the store before time goes on by a millisecond.
const WRITES_AT_ONCE: u8 = 3;

/// Whoever does more than this at one moment never comes to rest.
const AT_ONCE: usize = 1_000;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The request of a process comes to the store. What was read comes back at once.
    Serve(usize),
    /// The answer to a write comes to a process.
    Answer(usize),
    /// A process waits for the store no more; its request may still come there.
    Lose(usize),
    /// A request comes to the store for which nobody waits any more.
    Stray(usize),
    /// A message comes, or a standby's reply.
    Deliver(usize),
    /// A command of an agent does what it does.
    Apply(usize),
    /// An agent hears of the end of its command.
    Report(usize),
    /// An agent hears that PostgreSQL has ended.
    Gone(usize),
    /// A process is told of the state that the record had at the very beginning.
    Stale(usize),
    /// A client writes.
    Write(usize),
    /// A standby receives and flushes what its upstream has.
    Stream(usize),
    /// The reply of a standby comes to its upstream.
    Reply(usize),
    /// A fault begins.
    Begin(Fault),
    /// It is mended.
    Mend(Fault),
    /// Nothing more is to happen at this moment: time goes on to the next deadline.
    Wait,
}

/// What can be late, once in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Line(Process),
    Letter(usize),
    Order(usize),
}

impl Action {
    /// Whether it is a fault, or the end of one.
    pub(super) const fn goes_wrong(self) -> bool {
        matches!(self, Self::Begin(_) | Self::Mend(_) | Self::Lose(_))
    }

    /// What is late if time goes on before this; `None`: time does not go on before.
    const fn mark(self) -> Option<Mark> {
        match self {
            Self::Serve(process) | Self::Answer(process) => Some(Mark::Line(process)),
            Self::Deliver(letter) => Some(Mark::Letter(letter)),
            Self::Apply(node) | Self::Report(node) => Some(Mark::Order(node)),
            Self::Gone(_)
            | Self::Lose(_)
            | Self::Stray(_)
            | Self::Stale(_)
            | Self::Write(_)
            | Self::Stream(_)
            | Self::Reply(_)
            | Self::Begin(_)
            | Self::Mend(_)
            | Self::Wait => None,
        }
    }
}

impl State {
    /// What happens before time goes on, unless it is late.
    pub(super) fn pending(&self, case: &Case) -> Vec<Action> {
        let mut pending = Vec::new();
        for process in 0..case.processes() {
            if !self.runs(case, process) {
                continue;
            }
            match &self.line(process).request {
                Some(Asked::Sent(_)) if !self.has_written(process) => {
                    pending.push(Action::Serve(process));
                }
                Some(Asked::Sent(_)) => {}
                Some(Asked::Answered(_)) => pending.push(Action::Answer(process)),
                None => {}
            }
        }
        let comes = |at: &usize| self.runs(case, self.letters[*at].to);
        pending.extend((0..self.letters.len()).filter(comes).map(Action::Deliver));
        for (node, of) in self.nodes.iter().enumerate() {
            if !self.runs(case, node) {
                continue;
            }
            match of.order.as_ref().map(|order| order.worked) {
                Some(None) => pending.push(Action::Apply(node)),
                Some(Some(_)) => pending.push(Action::Report(node)),
                None => {}
            }
            if of.gone {
                pending.push(Action::Gone(node));
            }
        }
        pending
    }

    /// What comes before everything else ([`Case::coarse`]).
    pub(super) fn first(&self, pending: &[Action]) -> Option<Action> {
        let writes = |process: Process| {
            let asked = self.line(process).request.as_ref();
            matches!(asked, Some(Asked::Sent(Request::Put { .. })))
        };
        let nobody_writes = !(0..self.nodes.len() + self.controllers.len()).any(writes);
        let comes_first = |action: &&Action| match action {
            Action::Serve(_) => nobody_writes,
            Action::Answer(_) | Action::Report(_) => true,
            Action::Lose(_)
            | Action::Stray(_)
            | Action::Deliver(_)
            | Action::Apply(_)
            | Action::Gone(_)
            | Action::Stale(_)
            | Action::Write(_)
            | Action::Stream(_)
            | Action::Reply(_)
            | Action::Begin(_)
            | Action::Mend(_)
            | Action::Wait => false,
        };
        pending.iter().find(comes_first).copied()
    }

    /// What happens or not, at any time.
    pub(super) fn possible(&self, case: &Case) -> Vec<Action> {
        let mut possible: Vec<_> = (0..self.strays.len()).map(Action::Stray).collect();
        for process in 0..case.processes() {
            if !self.runs(case, process) {
                continue;
            }
            if self.lost > 0 && self.line(process).request.is_some() {
                possible.push(Action::Lose(process));
            }
            if self.stale > 0 {
                possible.push(Action::Stale(process));
            }
        }
        for (node, of) in self.nodes.iter().enumerate() {
            if self.writes > 0 && self.admits(node) {
                possible.push(Action::Write(node));
            }
            if self.receives(case, node) {
                possible.push(Action::Stream(node));
            }
            if of.reply.is_some() {
                possible.push(Action::Reply(node));
            }
        }
        let within = |(from, until): Window| (from..=until).contains(&self.now.milliseconds());
        for (at, Trouble { fault, begins, ends }) in case.faults.iter().enumerate() {
            if self.begun & (1 << at) == 0 {
                possible.extend(within(*begins).then_some(Action::Begin(*fault)));
            } else if self.lasts(case, *fault) && ends.is_some_and(within) {
                possible.push(Action::Mend(*fault));
            }
        }
        possible
    }

    pub(super) fn admits(&self, node: usize) -> bool {
        let pg = &self.nodes[node].postgres;
        pg.state == (Runs::Primary { admits: true }) && pg.clone().passes(self.now)
    }

    /// Whether a standby has something to receive, or to tell.
    fn receives(&self, case: &Case, node: usize) -> bool {
        let pg = &self.nodes[node].postgres;
        let Some(of) = pg.upstream else { return false };
        let other = &self.nodes[of].postgres;
        let serves = other.state != Runs::Down && other.clone().passes(self.now);
        if !serves || !self.streams_from(case, of).contains(&node) {
            return false;
        }
        let told = |lsn: Lsn| other.replies.get(&node_name(node)) == Some(&lsn);
        let tells = |lsn: Lsn| {
            let reply = self.nodes[node].reply.as_ref();
            reply.is_some_and(|reply| (reply.to, reply.life, reply.lsn) == (of, other.life, lsn))
        };
        let end = pg.log.end();
        pg.log != other.log || !(told(end) || tells(end))
    }

    /// What an agent would be told of PostgreSQL.
    fn shows(&self, case: &Case, node: usize) -> Option<(Wal, BTreeMap<NodeName, Lsn>)> {
        let pg = &self.nodes[node].postgres;
        let standbys = match pg.state {
            Runs::Down => return None,
            Runs::Standby => BTreeMap::new(),
            Runs::Primary { .. } => {
                let streams = self.streams_from(case, node);
                let known =
                    |(name, _): &(&NodeName, &Lsn)| streams.contains(&self.process_of(name));
                pg.replies.iter().filter(known).map(|(name, lsn)| (name.clone(), *lsn)).collect()
            }
        };
        Some((pg.log.wal(), standbys))
    }

    /// What of all that is pending is late if time goes on now and was not before; `None`: it does not go on.
    fn would_be_late(&self, pending: &[Action]) -> Option<Vec<Mark>> {
        let marks: Option<Vec<_>> = pending.iter().map(|action| action.mark()).collect();
        let was_late = |mark: &Mark| match *mark {
            Mark::Line(process) => self.line(process).late,
            Mark::Letter(letter) => self.letters[letter].late,
            Mark::Order(node) => self.nodes[node].order.as_ref().is_some_and(|order| order.late),
        };
        Some(marks?.into_iter().filter(|mark| !was_late(mark)).collect())
    }

    fn is_late(&mut self, mark: Mark) {
        match mark {
            Mark::Line(process) => self.line_mut(process).late = true,
            Mark::Letter(letter) => self.letters[letter].change().late = true,
            Mark::Order(node) => {
                if let Some(order) = &mut self.nodes[node].change().order {
                    order.late = true;
                }
            }
        }
    }

    /// When something is due next.
    fn next_due(&self, case: &Case) -> Option<Moment> {
        let running = (0..case.processes()).filter(|of| self.runs(case, *of));
        let due = |of: Process| {
            let waits = self.has_written(of).then(|| self.now + Duration::from_millis(1));
            [self.line(of).due, waits].into_iter().flatten().min()
        };
        running.filter_map(due).min()
    }

    /// Whether a process has written to the store at this moment as often as it can.
    fn has_written(&self, process: Process) -> bool {
        self.line(process).writes == (self.now, WRITES_AT_ONCE)
    }

    /// What is late if time goes on now; `None`: it does not.
    fn late_by_waiting(&self, case: &Case, pending: &[Action]) -> Option<Vec<Mark>> {
        let late = self.would_be_late(pending)?;
        (self.next_due(case).is_some() && late.len() <= usize::from(self.late)).then_some(late)
    }

    pub(super) fn can_wait(&self, case: &Case, pending: &[Action]) -> bool {
        self.late_by_waiting(case, pending).is_some()
    }

    fn wait(&mut self, case: &Case) {
        let late = self.late_by_waiting(case, &self.pending(case)).unwrap_or_default();
        for mark in late {
            self.is_late(mark);
            self.late -= 1;
        }
        self.letters.sort();
        if let Some(due) = self.next_due(case) {
            self.now = self.now.max(due);
        }
        let now = self.now;
        for node in &mut self.nodes {
            let mut postgres = node.postgres.clone();
            postgres.passes(now);
            if postgres != node.postgres {
                node.change().postgres = postgres;
            }
        }
        for process in 0..case.processes() {
            // That was at another moment.
            if self.line(process).writes != (Moment::new(0), 0) {
                self.line_mut(process).writes = (Moment::new(0), 0);
            }
        }
    }

    /// What an action leads to, and what comes at once after it: who has a deadline looks, and each agent
    /// sees how far the logs are.
    pub(super) fn perform(&mut self, case: &Case, action: Action) {
        self.happen(case, action);
        loop {
            let processes = 0..case.processes();
            let is_due = |of: &Process| self.line(*of).due.is_some_and(|due| due <= self.now);
            let due = processes.filter(|of| self.runs(case, *of)).find(is_due);
            let looks = |node: &usize| {
                let of = &self.nodes[*node];
                self.runs(case, *node)
                    && !of.gone
                    && self.shows(case, *node).is_some_and(|shows| of.shown != Some(shows))
            };
            if let Some(process) = due {
                self.tick(case, process);
            } else if let Some(node) = (0..self.nodes.len()).find(looks) {
                self.look(case, node);
            } else {
                break;
            }
        }
    }

    fn tick(&mut self, case: &Case, process: Process) {
        if self.is_controller(process) {
            self.controller_hears(case, process, coordinator::Event::Tick);
        } else {
            self.agent_hears(case, process, Event::Tick);
        }
    }

    fn happen(&mut self, case: &Case, action: Action) {
        match action {
            Action::Serve(process) => self.serve(case, process),
            Action::Answer(process) => {
                let lost = !self.reaches_store(case, process);
                self.answered(case, process, lost);
            }
            Action::Lose(process) => {
                self.lost -= 1;
                self.answered(case, process, true);
            }
            Action::Stray(at) => {
                let request = self.strays.remove(at);
                self.execute(request.into_inner());
            }
            Action::Deliver(at) => {
                let letter = self.letters.remove(at).into_inner();
                self.hear(case, letter.to, letter.from, letter.message);
            }
            Action::Apply(node) => self.apply(case, node),
            Action::Report(node) => self.report(case, node),
            Action::Gone(node) => {
                self.nodes[node].change().gone = false;
                self.agent_hears(case, node, Event::Gone);
            }
            Action::Stale(process) => {
                self.stale -= 1;
                let reading = Self::first_reading(case);
                let answer = Answer::Changed(reading);
                if self.is_controller(process) {
                    self.controller_hears(case, process, coordinator::Event::Store(answer));
                } else {
                    self.agent_hears(case, process, Event::Store(answer));
                }
            }
            Action::Write(node) => self.write(node),
            Action::Stream(node) => self.stream(node),
            Action::Reply(node) => self.reply(node),
            Action::Begin(fault) => self.begin_fault(case, fault),
            Action::Mend(fault) => self.mend(case, fault),
            Action::Wait => self.wait(case),
        }
    }

    fn look(&mut self, case: &Case, node: usize) {
        let Some((wal, standbys)) = self.shows(case, node) else { return };
        let primary = self.nodes[node].postgres.state != Runs::Standby;
        self.nodes[node].change().shown = Some((wal.clone(), standbys.clone()));
        self.agent_hears(case, node, Event::Log(wal));
        if primary {
            self.agent_hears(case, node, Event::Standbys(standbys));
        }
    }

    pub(super) fn write(&mut self, node: usize) {
        self.writes = self.writes.saturating_sub(1);
        let longest = self.nodes.iter().map(|of| of.postgres.log.len()).max().unwrap_or(0);
        let pg = self.postgres(node);
        // Told apart by where and in which epoch it is written.
        let commit = u32::try_from(longest * 100).unwrap_or(u32::MAX)
            + u32::try_from(pg.epoch.get()).unwrap_or(u32::MAX);
        let place = pg.log.write(commit);
        pg.waiting.push(Waiting { place, commit });
        self.acknowledge(node);
    }

    pub(super) fn stream(&mut self, node: usize) {
        let Some(of) = self.nodes[node].postgres.upstream else { return };
        let source = self.nodes[of].postgres.log.clone();
        let life = self.nodes[of].postgres.life;
        let own = self.nodes[node].change();
        own.postgres.log.follow(&source, 1);
        own.reply = Some(Reply { to: of, life, lsn: own.postgres.log.end() });
    }

    pub(super) fn reply(&mut self, node: usize) {
        let Some(reply) = self.nodes[node].change().reply.take() else { return };
        let now = self.now;
        let pg = self.postgres(reply.to);
        if pg.life == reply.life && pg.passes(now) {
            pg.replies.insert(node_name(node), reply.lsn);
            self.acknowledge(reply.to);
        }
    }

    /// Does what is to be done, in one fixed order, until nothing is.
    pub(super) fn rest(&mut self, case: &Case) {
        for _ in 0..AT_ONCE {
            let streams = |action: &Action| matches!(action, Action::Stream(_) | Action::Reply(_));
            let next = self.pending(case).first().copied();
            let next = next.or_else(|| self.possible(case).into_iter().find(streams));
            match next {
                Some(action) => self.perform(case, action),
                None => return,
            }
        }
        self.check(Err(Violation::NoProgress));
    }
}
