//! Drives the shipped machines: what they hear, and what becomes of their effects.

use pgha_machine::failover::agent::{self, Command, Outcome};
use pgha_machine::failover::coordinator;
use pgha_machine::failover::message::{Message, Report};
use pgha_machine::failover::{Answer, Request, Written};
use pgha_machine::{Epoch, NodeName};

use super::case::Case;
use super::shared::Shared;
use super::state::{Asked, Letter, Order, Process, State};
use crate::oracle::{Oracle, Violation, is_forced, licensed, seen_by_enough};
use crate::postgres::State as Runs;
use crate::world::node_name;

impl State {
    pub(super) fn start_agent(&mut self, case: &Case, node: usize) {
        let now = self.now;
        let of = self.nodes[node].change();
        of.run += 1;
        of.line = super::state::Line::default();
        of.armed = pgha_machine::Moment::new(0);
        of.shown = None;
        of.gone = false;
        of.agent = Some(of.agent(case, node, now));
        self.agent_hears(case, node, agent::Event::Tick);
    }

    pub(super) fn agent_hears(&mut self, case: &Case, node: usize, event: agent::Event) {
        let now = self.now;
        let of = self.nodes[node].change();
        let Some(agent) = of.agent.as_mut() else { return };
        agent.handle(now, event);
        let effects: Vec<_> = std::iter::from_fn(|| agent.poll_effect()).collect();
        of.line.due = agent.poll_timeout(now);
        for effect in effects {
            match effect {
                agent::Effect::Store(request) => self.ask(node, request),
                agent::Effect::Send { to, message } => self.send(case, node, &to, message),
                agent::Effect::Do { number, command } => {
                    let order = Order { number, command, worked: None, late: false };
                    self.nodes[node].change().order = Some(order);
                }
                agent::Effect::Arm(until) => {
                    let of = self.nodes[node].change();
                    of.armed = of.armed.max(until);
                    if matches!(of.postgres.state, Runs::Primary { .. }) {
                        of.postgres.arm(until);
                    }
                }
                // Nobody is told of log that is removed.
                agent::Effect::Copy { .. } => {}
                agent::Effect::Claim(_) => {}
            }
        }
    }

    pub(super) fn controller_hears(
        &mut self,
        case: &Case,
        process: Process,
        event: coordinator::Event,
    ) {
        let now = self.now;
        let of = self.controllers[process - case.nodes].change();
        of.coordinator.handle(now, event);
        let effects: Vec<_> = std::iter::from_fn(|| of.coordinator.poll_effect()).collect();
        of.line.due = of.coordinator.poll_timeout(now);
        for effect in effects {
            match effect {
                coordinator::Effect::Store(request) => self.ask(process, request),
                coordinator::Effect::Send { to, message } => {
                    self.send(case, process, &to, message);
                }
                coordinator::Effect::TurnOff { .. } | coordinator::Effect::Answered { .. } => {}
            }
        }
    }

    fn ask(&mut self, process: Process, request: Request) {
        let line = self.line_mut(process);
        line.request = Some(Asked::Sent(request));
        line.late = false;
    }

    /// What says nothing new comes at once, and so does how a process is, but what an agent tells a controller
    /// of that; the rest comes whenever it does.
    fn send(&mut self, case: &Case, from: Process, to: &NodeName, message: Message) {
        let to = self.process_of(to);
        if !self.reaches(case, from, to) {
            return;
        }
        if let Message::Report(report) = &message {
            let known = self.line(to).told.get(&from);
            let same = known.is_some_and(|known| {
                Report { seen: None, ..known.clone() } == Report { seen: None, ..report.clone() }
            });
            if same || !self.is_controller(to) || self.is_controller(from) {
                if self.runs(case, to) {
                    self.hear(case, to, from, message);
                }
                return;
            }
            let older = |it: &Shared<Letter>| {
                (it.from, it.to) == (from, to) && matches!(it.message, Message::Report(_))
            };
            self.letters.retain(|it| !older(it));
        }
        let letter = Letter { from, to, late: false, message };
        let at = self.letters.partition_point(|other| **other < letter);
        self.letters.insert(at, Shared::new(letter));
    }

    pub(super) fn hear(&mut self, case: &Case, to: Process, from: Process, message: Message) {
        if let Message::Report(report) = &message {
            self.line_mut(to).told.insert(from, Report { seen: None, ..report.clone() });
        }
        let from = self.name_of(from);
        if self.is_controller(to) {
            self.controller_hears(case, to, coordinator::Event::Heard { from, message });
        } else {
            self.agent_hears(case, to, agent::Event::Heard { from, message });
        }
    }

    /// A request comes to the store, and is carried out.
    pub(super) fn execute(&mut self, request: Request) -> Answer {
        match request {
            Request::Read => Answer::Read(Some(self.store.reading())),
            Request::Put { expected, record } => {
                let before = self.store.record().clone();
                let revision = self.store.change().put(expected, *record);
                if revision.is_some() {
                    self.check(Oracle::writes(&before, self.store.record()));
                    if before.epoch != self.store.record().epoch {
                        self.oracle.change().granted(0, &before);
                    }
                    self.forget_strays();
                }
                Answer::Written(revision.map_or(Written::Conflict, Written::Done))
            }
        }
    }

    /// Nobody waits for a request any more. It may still be carried out, if it expects what is there.
    pub(super) fn stray(&mut self, request: Request) {
        self.strays.push(Shared::new(request));
        self.forget_strays();
    }

    pub(super) fn forget_strays(&mut self) {
        let mark = self.store.reading().mark;
        let may = |request: &Request| matches!(request, Request::Put { expected, .. } if *expected == mark);
        self.strays.retain(|stray| may(stray));
    }

    /// The request of a process comes to the store, if it does.
    pub(super) fn serve(&mut self, case: &Case, process: Process) {
        let Some(Asked::Sent(request)) = self.line_mut(process).request.take() else { return };
        let answer = if self.reaches_store(case, process) {
            self.execute(request)
        } else {
            match request {
                Request::Read => Answer::Read(None),
                Request::Put { .. } => Answer::Written(Written::Failed),
            }
        };
        let read = matches!(answer, Answer::Read(_));
        self.line_mut(process).request = Some(Asked::Answered(Box::new(answer)));
        if read {
            self.answered(case, process, false);
        }
    }

    /// The answer of the store comes, or nothing is known of it.
    pub(super) fn answered(&mut self, case: &Case, process: Process, lost: bool) {
        let answer = match self.line_mut(process).request.take() {
            Some(Asked::Sent(request)) => {
                let nothing = match &request {
                    Request::Read => Answer::Read(None),
                    Request::Put { .. } => Answer::Written(Written::Unknown),
                };
                self.stray(request);
                nothing
            }
            Some(Asked::Answered(answer)) => match *answer {
                Answer::Read(reading) => Answer::Read(reading.filter(|_| !lost)),
                Answer::Written(_) if lost => Answer::Written(Written::Unknown),
                answer @ (Answer::Written(_) | Answer::Changed(_)) => answer,
            },
            None => return,
        };
        let now = self.now;
        let line = self.line_mut(process);
        line.late = false;
        if matches!(answer, Answer::Written(_)) {
            let before = if line.writes.0 == now { line.writes.1 } else { 0 };
            line.writes = (now, before + 1);
        }
        if self.is_controller(process) {
            self.controller_hears(case, process, coordinator::Event::Store(answer));
        } else {
            self.agent_hears(case, process, agent::Event::Store(answer));
        }
    }

    /// A command does what it does.
    pub(super) fn apply(&mut self, case: &Case, node: usize) {
        let Some(command) = self.nodes[node].order.as_ref().map(|order| order.command.clone())
        else {
            return;
        };
        let worked = self.carry_out(case, node, &command);
        if let Some(order) = self.nodes[node].change().order.as_mut() {
            order.worked = Some(worked);
        }
        let at_once = matches!(
            command,
            Command::Keep(_) | Command::Start | Command::Follow { .. } | Command::Rewind { .. }
        );
        if at_once {
            self.report(case, node);
        }
    }

    /// An agent hears what became of its command.
    pub(super) fn report(&mut self, case: &Case, node: usize) {
        let of = self.nodes[node].change();
        let Some(order) = of.order.take() else { return };
        let outcome = match order.worked {
            Some(worked) => of.postgres.outcome(&order.command, worked, true),
            None => Outcome::Failed,
        };
        let number = order.number;
        self.agent_hears(case, node, agent::Event::Ended { number, outcome });
    }

    fn carry_out(&mut self, case: &Case, node: usize, command: &Command) -> bool {
        let of = self.nodes[node].change();
        let known = of.agent.as_ref().and_then(|agent| Some(agent.record()?.epoch));
        let epoch: Epoch = known.unwrap_or_default();
        let worked = of.postgres.obey(command, epoch, of.armed);
        match command {
            Command::Keep(kept) => of.kept = kept.clone(),
            Command::CatchUp { from, .. } | Command::Rewind { from } => {
                let from = self.process_of(from);
                let source = &self.nodes[from].postgres;
                let rewinds = matches!(command, Command::Rewind { .. });
                let useful = match source.state {
                    Runs::Down => false,
                    Runs::Standby => !rewinds,
                    Runs::Primary { .. } => true,
                };
                if !useful || !self.reaches(case, node, from) {
                    return false;
                }
                let log = source.log.clone();
                match rewinds {
                    true => self.postgres(node).rewind_to(&log),
                    false => self.postgres(node).catch_up_with(&log),
                }
            }
            Command::Follow { of, .. } => return self.follow(node, of),
            Command::Promote { .. } if worked => self.opened(node),
            Command::UseVoters(_) => self.acknowledge(node),
            Command::Admit => self.seen(node),
            Command::Start
            | Command::Restart { .. }
            | Command::Exchange { .. }
            | Command::StopStreaming
            | Command::Promote { .. }
            | Command::Kill => {}
        }
        worked
    }

    fn follow(&mut self, node: usize, primary: &NodeName) -> bool {
        let of = self.process_of(primary);
        let (own, other) = (&self.nodes[node].postgres, &self.nodes[of].postgres);
        if own.state != Runs::Standby {
            return false;
        }
        let current = self.store.record();
        let newest = current.holder() == Some(primary) && other.epoch == current.epoch;
        let writes = matches!(other.state, Runs::Primary { .. });
        if writes && newest && !own.log.begins(&other.log) {
            self.check(Err(Violation::Diverged { node }));
        }
        self.postgres(node).upstream = Some(of);
        true
    }

    /// A node begins to accept writes: it must have everything, and the right.
    fn opened(&mut self, node: usize) {
        let pg = &self.nodes[node].postgres;
        let forced = is_forced(self.store.record(), pg.epoch);
        let result = self.oracle.change().opens(&pg.log, pg.epoch, forced);
        let licensed = licensed(self.store.record(), &node_name(node), pg.epoch);
        self.check(result);
        if !licensed {
            self.check(Err(Violation::Unlicensed { node }));
        }
    }

    /// Clients see what the log has: a quorum must have it too (S7).
    fn seen(&mut self, node: usize) {
        self.opened(node);
        let pg = &self.nodes[node].postgres;
        let has = |name: &NodeName| {
            let other = self.nodes.get(self.process_of(name));
            other.is_some_and(|other| pg.log.begins(&other.postgres.log))
        };
        let end = pg.log.end();
        if !seen_by_enough(self.store.record(), pg.epoch, has) {
            self.check(Err(Violation::SeenAlone { node, end }));
        }
    }

    /// Tells clients what is done. What the oracle knows of time is not used.
    pub(super) fn acknowledge(&mut self, node: usize) {
        let now = self.now;
        let pg = self.postgres(node);
        let (done, epoch) = (pg.acknowledged(now), pg.epoch);
        for waiting in done {
            let commit = (waiting.place, waiting.commit, epoch);
            let oracle = self.oracle.change();
            let result = oracle.acknowledge(0, commit, self.store.record());
            self.check(result);
        }
    }
}
