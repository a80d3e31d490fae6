//! What can happen next in a state, and what it leads to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgha_machine::failover::agent::Event;
use pgha_machine::failover::coordinator;
use pgha_machine::failover::record::Suspicion;
use pgha_machine::{Lsn, NodeName, Wal};

use super::case::{Case, Fault};
use super::state::{Asked, Process, Reply, State};
use crate::postgres::{State as Runs, Waiting};
use crate::world::node_name;

/// How often a process writes to the store before time goes on by a millisecond.
const WRITES_AT_ONCE: u8 = 3;

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

impl State {
    /// What happens before time goes on, unless it is late.
    pub(super) fn pending(&self, case: &Case) -> Vec<Action> {
        let mut pending = Vec::new();
        for process in 0..=Self::controller_process(case) {
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

    /// What happens or not, at any time.
    pub(super) fn possible(&self, case: &Case) -> Vec<Action> {
        let mut possible: Vec<_> = (0..self.strays.len()).map(Action::Stray).collect();
        for process in 0..=Self::controller_process(case) {
            if self.lost > 0 && self.runs(case, process) && self.line(process).request.is_some() {
                possible.push(Action::Lose(process));
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
        let within = |(from, until): (u64, u64)| (from..=until).contains(&self.now.milliseconds());
        for (at, fault) in case.faults.iter().enumerate() {
            let bit = 1 << at;
            if self.begun & bit == 0 && within(case.when) {
                possible.push(Action::Begin(*fault));
            } else if self.lasts(case, *fault) && case.mended.is_some_and(within) {
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
        let told = |lsn: Lsn| other.flushed.get(&node_name(node)) == Some(&lsn);
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
                pg.flushed.iter().filter(known).map(|(name, lsn)| (name.clone(), *lsn)).collect()
            }
        };
        Some((pg.log.wal(), standbys))
    }

    /// How many of what is pending would be late if time went on; `None`: some of it cannot be.
    fn would_be_late(&self, pending: &[Action]) -> Option<u8> {
        let mut count = 0;
        for action in pending {
            let late = match action {
                Action::Serve(process) | Action::Answer(process) => self.line(*process).late,
                Action::Deliver(letter) => self.letters[*letter].late,
                Action::Apply(node) | Action::Report(node) => {
                    self.nodes[*node].order.as_ref().is_some_and(|order| order.late)
                }
                Action::Gone(_)
                | Action::Lose(_)
                | Action::Stray(_)
                | Action::Write(_)
                | Action::Stream(_)
                | Action::Reply(_)
                | Action::Begin(_)
                | Action::Mend(_)
                | Action::Wait => return None,
            };
            count += u8::from(!late);
        }
        Some(count)
    }

    /// When something is due next.
    fn next_due(&self, case: &Case) -> Option<pgha_machine::Moment> {
        let running = (0..=Self::controller_process(case)).filter(|of| self.runs(case, *of));
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

    pub(super) fn can_wait(&self, case: &Case, pending: &[Action]) -> bool {
        self.next_due(case).is_some()
            && self.would_be_late(pending).is_some_and(|count| count <= self.late)
    }

    fn wait(&mut self, case: &Case) {
        let pending = self.pending(case);
        self.late -= self.would_be_late(&pending).unwrap_or(0).min(self.late);
        for action in pending {
            match action {
                Action::Serve(process) | Action::Answer(process) => {
                    self.line_mut(process).late = true;
                }
                Action::Deliver(letter) => Arc::make_mut(&mut self.letters[letter]).late = true,
                Action::Apply(node) | Action::Report(node) => {
                    if let Some(order) = Arc::make_mut(&mut self.nodes[node]).order.as_mut() {
                        order.late = true;
                    }
                }
                Action::Gone(_)
                | Action::Lose(_)
                | Action::Stray(_)
                | Action::Write(_)
                | Action::Stream(_)
                | Action::Reply(_)
                | Action::Begin(_)
                | Action::Mend(_)
                | Action::Wait => {}
            }
        }
        self.letters.sort();
        if let Some(due) = self.next_due(case) {
            self.now = self.now.max(due);
        }
        let now = self.now;
        for node in 0..self.nodes.len() {
            self.postgres(node).passes(now);
        }
    }

    /// What an action leads to, and what comes at once after it: who has a deadline looks, and each agent
    /// sees how far the logs are.
    pub(super) fn perform(&mut self, case: &Case, action: Action) {
        self.happen(case, action);
        loop {
            let processes = 0..=Self::controller_process(case);
            let is_due = |of: &Process| self.line(*of).due.is_some_and(|due| due <= self.now);
            let due = processes.filter(|of| self.runs(case, *of)).find(is_due);
            let looks = |node: &usize| {
                let of = &self.nodes[*node];
                self.runs(case, *node)
                    && !of.gone
                    && self.shows(case, *node).is_some_and(|shows| of.shown != Some(shows))
            };
            if let Some(process) = due {
                if process == Self::controller_process(case) {
                    self.controller_hears(case, coordinator::Event::Tick);
                } else {
                    self.agent_hears(case, process, Event::Tick);
                }
            } else if let Some(node) = (0..self.nodes.len()).find(looks) {
                self.look(case, node);
            } else {
                break;
            }
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
                self.execute(Arc::unwrap_or_clone(request));
            }
            Action::Deliver(at) => {
                let letter = Arc::unwrap_or_clone(self.letters.remove(at));
                self.hear(case, letter.to, letter.from, letter.message);
            }
            Action::Apply(node) => self.apply(case, node),
            Action::Report(node) => self.report(case, node),
            Action::Gone(node) => {
                Arc::make_mut(&mut self.nodes[node]).gone = false;
                self.agent_hears(case, node, Event::Gone);
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
        Arc::make_mut(&mut self.nodes[node]).shown = Some((wal.clone(), standbys.clone()));
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
        let own = Arc::make_mut(&mut self.nodes[node]);
        own.postgres.log.follow(&source, 1);
        own.reply = Some(Reply { to: of, life, lsn: own.postgres.log.end() });
    }

    pub(super) fn reply(&mut self, node: usize) {
        let Some(reply) = Arc::make_mut(&mut self.nodes[node]).reply.take() else { return };
        let now = self.now;
        let pg = self.postgres(reply.to);
        if pg.life == reply.life && pg.passes(now) {
            pg.flushed.insert(node_name(node), reply.lsn);
            self.acknowledge(reply.to);
        }
    }

    fn begin_fault(&mut self, case: &Case, fault: Fault) {
        let Some(at) = case.faults.iter().position(|of| *of == fault) else { return };
        self.begun |= 1 << at;
        match fault {
            Fault::Agent(node) => self.end_agent(node),
            Fault::Off(node) => {
                self.end_agent(node);
                self.postgres(node).kill();
            }
            Fault::Crash(node) => {
                self.mended |= 1 << at;
                if self.nodes[node].postgres.state != Runs::Down {
                    let of = Arc::make_mut(&mut self.nodes[node]);
                    of.postgres.kill();
                    of.gone = of.agent.is_some();
                }
            }
            Fault::Suspicion => {
                self.mended |= 1 << at;
                let reading = self.store.reading();
                let by = crate::world::controller_name(1);
                if let Ok(next) = self.store.record().freeze(by, Suspicion::Silent) {
                    Arc::make_mut(&mut self.store).put(reading.mark, next);
                }
            }
            Fault::Alone(node) => {
                self.letters.retain(|letter| letter.from != node && letter.to != node);
                for of in &mut self.nodes {
                    if of.reply.as_ref().is_some_and(|reply| reply.to == node) {
                        Arc::make_mut(of).reply = None;
                    }
                }
                Arc::make_mut(&mut self.nodes[node]).reply = None;
            }
            Fault::Paused(_) | Fault::Store | Fault::StoreOf(_) => {}
        }
    }

    pub(super) fn mend(&mut self, case: &Case, fault: Fault) {
        let Some(at) = case.faults.iter().position(|of| *of == fault) else { return };
        self.mended |= 1 << at;
        match fault {
            Fault::Agent(node) | Fault::Off(node) => {
                if self.nodes[node].agent.is_none() {
                    self.start_agent(case, node);
                }
            }
            Fault::Paused(_)
            | Fault::Crash(_)
            | Fault::Store
            | Fault::StoreOf(_)
            | Fault::Alone(_)
            | Fault::Suspicion => {}
        }
    }

    /// The process of an agent ends. What was not done is not done; what was sent to the store may come there.
    fn end_agent(&mut self, node: Process) {
        self.letters.retain(|letter| letter.to != node);
        let of = Arc::make_mut(&mut self.nodes[node]);
        of.agent = None;
        of.order = None;
        of.gone = false;
        of.shown = None;
        let line = std::mem::take(&mut of.line);
        if let Some(Asked::Sent(request)) = line.request
            && matches!(request, pgha_machine::failover::Request::Put { .. })
        {
            self.strays.push(Arc::new(request));
        }
    }

    /// Does what is to be done, in one fixed order, until nothing is.
    pub(super) fn rest(&mut self, case: &Case) {
        loop {
            let streams = |action: &Action| matches!(action, Action::Stream(_) | Action::Reply(_));
            let next = self.pending(case).first().copied();
            let next = next.or_else(|| self.possible(case).into_iter().find(streams));
            match next {
                Some(action) => self.perform(case, action),
                None => break,
            }
        }
    }
}
