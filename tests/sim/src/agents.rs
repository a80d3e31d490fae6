//! The nodes: an agent, its disk, and PostgreSQL.

use std::collections::BTreeMap;

use pgha_machine::failover::agent::{Agent, Command, Config, Effect, Event, Found, Kept};
use pgha_machine::{Epoch, Lsn, Moment};

use crate::clock::{Clock, Time};
use crate::oracle::{self, Violation};
use crate::postgres::{Postgres, State, Waiting};
use crate::world::{Occurrence, World, controller_name, node_name};

/// A command under way.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    command: Command,
    applied: Option<bool>,
}

/// A node.
pub(crate) struct Node {
    pub(crate) clock: Clock,
    agent: Option<Agent>,
    pub(crate) run: u64,
    kept: Kept,
    pub(crate) postgres: Postgres,
    /// The deadline that the agent gave last.
    armed: Option<Moment>,
    pub(crate) paused: Time,
    /// The whole machine stands still until then.
    pub(crate) halted: Time,
    pub(crate) off: bool,
    pub(crate) faulty: bool,
    under_way: Option<UnderWay>,
    pub(crate) request: Option<u64>,
    pub(crate) ticks: u64,
}

impl World {
    pub(crate) fn add_node(&mut self, node: usize) {
        let clock = Clock::draw(&mut self.rng);
        let mut postgres = Postgres::standby((node > 0).then_some(0));
        if node == 0 {
            postgres.start(State::Primary { admits: true }, Some(clock.at(self.now + 900)));
            postgres.epoch = Epoch::new(1);
        }
        self.nodes.push(Node {
            clock,
            agent: None,
            run: 0,
            kept: Kept::default(),
            postgres,
            armed: None,
            paused: 0,
            halted: 0,
            off: false,
            faulty: false,
            under_way: None,
            request: None,
            ticks: 0,
        });
        self.start_agent(node);
    }

    pub(crate) fn start_agent(&mut self, node: usize) {
        let controllers = (0..self.plan.controllers).map(controller_name).collect();
        let now = self.now;
        let of = &mut self.nodes[node];
        if of.agent.is_some() || of.off {
            return;
        }
        of.run += 1;
        of.request = None;
        of.under_way = None;
        of.armed = None;
        let shown = of.clock.at(now);
        let found = match of.postgres.state {
            State::Down => Found::Nothing,
            State::Standby => Found::Standby {
                upstream: of.postgres.upstream.map(node_name),
                wal: Some(of.postgres.log.wal()),
            },
            State::Primary { admits } => Found::Primary {
                admits,
                open: of.postgres.deadline().filter(|_| of.postgres.passes(shown)),
                wal: of.postgres.log.wal(),
            },
        };
        let config = Config {
            name: node_name(node),
            run: of.run,
            controllers,
            restarts: self.plan.restarts,
            rules: self.plan.rules,
        };
        of.agent = Some(Agent::new(config, of.kept.clone(), found, shown));
        let run = of.run;
        self.say(|| format!("agent of n{node} starts"));
        self.agent_hears(node, run, Event::Tick);
        if self.nodes[node].faulty {
            self.agent_hears(node, run, Event::Faulty(true));
        }
    }

    /// The agent's process ends; what it was doing is done, or not.
    pub(crate) fn crash_agent(&mut self, node: usize) {
        if self.rng.bool()
            && let Some(under_way) = self.nodes[node].under_way.take()
            && under_way.applied.is_none()
        {
            self.do_command(node, &under_way.command);
        }
        let of = &mut self.nodes[node];
        of.under_way = None;
        of.agent = None;
    }

    pub(crate) fn power_off(&mut self, node: usize) {
        self.crash_agent(node);
        let of = &mut self.nodes[node];
        of.postgres.kill();
        of.off = true;
    }

    /// PostgreSQL ends by itself.
    pub(crate) fn crash_postgres(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        if of.off || of.postgres.state == State::Down {
            return;
        }
        of.postgres.kill();
        let run = of.run;
        let delay = self.rng.u64(5..60);
        self.after(delay, Occurrence::Agent { node, run, event: Event::Gone });
    }

    pub(crate) fn agent_hears(&mut self, node: usize, run: u64, event: Event) {
        let now = self.now;
        let of = &mut self.nodes[node];
        if of.run != run || of.agent.is_none() {
            return;
        }
        let paused = of.paused.max(of.halted);
        if paused > now {
            self.at(paused, Occurrence::Agent { node, run, event });
            return;
        }
        // It may have waited for a paused agent, which looks for itself.
        let event =
            if matches!(event, Event::Faulty(_)) { Event::Faulty(of.faulty) } else { event };
        let shown = of.clock.at(now);
        let Some(agent) = of.agent.as_mut() else { return };
        let standing = agent.standing();
        self.coverage.agent(agent.role(), &standing, &event);
        let kind = match &event {
            Event::Read(_) => 0,
            Event::Changed(_) => 1,
            Event::Written(_) => 2,
            Event::Heard { .. } => 3,
            Event::Ended { .. } => 4,
            Event::Gone => 5,
            Event::OutOfRecovery | Event::Faulty(_) => 6,
            Event::Log(_) => 7,
            Event::Standbys(_) => 8,
            Event::Tick => 9,
        };
        agent.handle(shown, event);
        let mut effects = Vec::new();
        while let Some(effect) = agent.poll_effect() {
            effects.push(effect);
        }
        let due = agent.poll_timeout(shown);
        let clock = of.clock;
        of.ticks += 1;
        let number = of.ticks;
        self.mark((0, node, kind));
        for effect in effects {
            match effect {
                Effect::Store(request) => self.ask_store(node, run, request),
                Effect::Send { to, message } => self.send(node, &to, message),
                Effect::Do { number, command } => self.order(node, run, number, command),
                Effect::Arm(until) => {
                    let of = &mut self.nodes[node];
                    of.armed = Some(of.armed.map_or(until, |before| before.max(until)));
                    if matches!(of.postgres.state, State::Primary { .. }) {
                        of.postgres.arm(until);
                    }
                }
                Effect::Claim => {}
            }
        }
        if let Some(due) = due {
            let when = clock.when(due, now).max(now + 1);
            self.at(when, Occurrence::Tick { process: node, run, number });
        }
    }

    /// Something is to be done to PostgreSQL; what was under way is left.
    fn order(&mut self, node: usize, run: u64, number: u64, command: Command) {
        self.say(|| format!("n{node}: {command:?}"));
        self.nodes[node].under_way = Some(UnderWay { number, command, applied: None });
        let takes = self.rng.u64(2..60);
        let applied = self.rng.u64(0..takes);
        self.after(applied, Occurrence::Apply { node, run, number });
        self.after(takes, Occurrence::Report { node, run, number });
    }

    pub(crate) fn apply(&mut self, node: usize, run: u64, number: u64) {
        let of = &mut self.nodes[node];
        let paused = of.paused.max(of.halted);
        if of.run == run && paused > self.now {
            self.at(paused, Occurrence::Apply { node, run, number });
            return;
        }
        let this = of.under_way.take_if(|under_way| under_way.number == number && of.run == run);
        let Some(mut this) = this else { return };
        let fails = !self.calm && self.rng.u8(0..40) == 0 && this.command != Command::Kill;
        this.applied = Some(!fails && self.do_command(node, &this.command));
        self.nodes[node].under_way = Some(this);
    }

    pub(crate) fn report(&mut self, node: usize, run: u64, number: u64) {
        let of = &mut self.nodes[node];
        let paused = of.paused.max(of.halted);
        if of.run == run && paused > self.now {
            // After what the command does, which waits too.
            self.at(paused + 1, Occurrence::Report { node, run, number });
            return;
        }
        let this = of.under_way.take_if(|under_way| under_way.number == number && of.run == run);
        let Some(this) = this else { return };
        if of.off {
            return;
        }
        let worked = this.applied == Some(true);
        let streams_no_more = matches!(
            this.command,
            Command::Start
                | Command::StopStreaming
                | Command::CatchUp { .. }
                | Command::Rewind { .. }
        );
        let known = worked && streams_no_more && self.rng.bool();
        let outcome = of.postgres.outcome(&this.command, worked, known);
        self.agent_hears(node, run, Event::Ended { number, outcome });
    }

    /// What a command does; whether it worked.
    fn do_command(&mut self, node: usize, command: &Command) -> bool {
        let now = self.now;
        let epoch = self.nodes[node].agent.as_ref().and_then(|agent| Some(agent.record()?.epoch));
        let of = &mut self.nodes[node];
        if of.off {
            return false;
        }
        let armed = of.armed.unwrap_or_default();
        let worked = of.postgres.obey(command, epoch.unwrap_or_default(), armed);
        match command {
            Command::Keep(kept) => of.kept = kept.clone(),
            Command::CatchUp { from, .. } => return self.catch_up(node, from),
            Command::Follow(primary) => return self.follow(node, primary),
            Command::Rewind { from } => return self.rewind(node, from),
            Command::Promote { .. } if worked => self.opened(node),
            Command::UseVoters(_) => self.acknowledge(node, now),
            Command::Admit => self.seen(node),
            Command::Start
            | Command::Restart { .. }
            | Command::StopStreaming
            | Command::Promote { .. }
            | Command::Kill => {}
        }
        worked
    }

    /// A node begins to accept writes: it must have everything, and the right.
    fn opened(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        let shown = of.clock.at(self.now);
        if !of.postgres.passes(shown) {
            // Nobody sees it.
            return;
        }
        let pg = &of.postgres;
        let (epoch, result) = (pg.epoch, self.oracle.opens(&pg.log, pg.epoch));
        self.check(result);
        if !oracle::licensed(self.store.record(), &node_name(node), epoch) {
            self.check(Err(Violation::Unlicensed { node }));
        }
    }

    /// Clients see what the log has: a quorum must have it too (S7).
    fn seen(&mut self, node: usize) {
        self.opened(node);
        let pg = &self.nodes[node].postgres;
        let (own, end) = (&pg.log, pg.log.end());
        let has = |name: &pgha_machine::NodeName| {
            self.process_of(name).is_some_and(|other| own.begins(&self.nodes[other].postgres.log))
        };
        if !oracle::seen_by_enough(self.store.record(), pg.epoch, has) {
            self.check(Err(Violation::SeenAlone { node, end }));
        }
    }

    fn other(&self, node: usize, name: &pgha_machine::NodeName) -> Option<usize> {
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
        self.nodes[node].postgres.upstream = Some(of);
        true
    }

    fn rewind(&mut self, node: usize, from: &pgha_machine::NodeName) -> bool {
        let Some(of) = self.other(node, from) else { return false };
        let source = &self.nodes[of].postgres;
        if !matches!(source.state, State::Primary { .. }) {
            return false;
        }
        let log = source.log.clone();
        self.nodes[node].postgres.rewind_to(&log);
        true
    }

    fn catch_up(&mut self, node: usize, from: &pgha_machine::NodeName) -> bool {
        let Some(of) = self.other(node, from) else { return false };
        let source = &self.nodes[of].postgres;
        if source.state == State::Down {
            return false;
        }
        let log = source.log.clone();
        self.nodes[node].postgres.catch_up_with(&log);
        true
    }

    /// Clients write, standbys stream, and the agent is told.
    pub(crate) fn pump(&mut self, node: usize) {
        let pause = self.rng.u64(25..60);
        self.after(pause, Occurrence::Pump { node });
        let now = self.now;
        if self.nodes[node].off || self.nodes[node].halted > now {
            return;
        }
        match self.nodes[node].postgres.state {
            State::Down => {}
            State::Standby => self.stream(node),
            State::Primary { admits } => {
                let shown = self.nodes[node].clock.at(now);
                if self.nodes[node].postgres.passes(shown) && admits {
                    self.commits += 1;
                    let commit = self.commits;
                    let pg = &mut self.nodes[node].postgres;
                    let place = pg.log.write(commit);
                    pg.waiting.push(Waiting { place, commit });
                }
                self.acknowledge(node, now);
            }
        }
        self.tell_agent(node);
    }

    fn tell_agent(&mut self, node: usize) {
        let of = &self.nodes[node];
        let (run, now) = (of.run, self.now);
        if of.agent.is_none() {
            return;
        }
        let pg = &of.postgres;
        let log = pg.log.wal();
        match pg.state {
            State::Down => {}
            State::Standby => self.agent_hears(node, run, Event::Log(log)),
            State::Primary { .. } => {
                let recent = |(name, _): &(&pgha_machine::NodeName, &Lsn)| {
                    pg.heard.get(*name).is_some_and(|heard| heard + 250 > now)
                };
                let standbys: BTreeMap<_, _> = pg
                    .flushed
                    .iter()
                    .filter(recent)
                    .map(|(name, lsn)| (name.clone(), *lsn))
                    .collect();
                self.agent_hears(node, run, Event::Log(log));
                self.agent_hears(node, run, Event::Standbys(standbys));
            }
        }
    }

    fn stream(&mut self, node: usize) {
        let Some(of) = self.nodes[node].postgres.upstream else { return };
        let now = self.now;
        let source = &mut self.nodes[of];
        let runs = !source.off && source.halted <= now && source.postgres.state != State::Down;
        let shown = source.clock.at(now);
        if !runs || !source.postgres.passes(shown) || !self.reaches(node, of) {
            return;
        }
        let count = if self.rng.u8(0..4) == 0 { 0 } else { self.rng.usize(1..8) };
        let life = self.nodes[of].postgres.life;
        let [own, other] = self.nodes.get_disjoint_mut([node, of]).expect("nobody follows itself");
        if !own.postgres.log.begins(&other.postgres.log) {
            return;
        }
        own.postgres.log.follow(&other.postgres.log, count);
        let lsn = own.postgres.log.end();
        let delay = self.delay();
        self.after(delay, Occurrence::Flushed { from: node, to: of, life, lsn });
    }

    pub(crate) fn flushed(&mut self, from: usize, to: usize, life: u64, lsn: Lsn) {
        let now = self.now;
        let of = &mut self.nodes[to];
        let shown = of.clock.at(now);
        if of.postgres.life != life || of.halted > now || !of.postgres.passes(shown) {
            return;
        }
        if self.reaches(from, to) {
            let pg = &mut self.nodes[to].postgres;
            let known = pg.flushed.entry(node_name(from)).or_insert(lsn);
            *known = (*known).max(lsn);
            pg.heard.insert(node_name(from), now);
            self.acknowledge(to, now);
        }
    }

    /// Tells clients what is done.
    fn acknowledge(&mut self, node: usize, now: Time) {
        let of = &mut self.nodes[node];
        let shown = of.clock.at(now);
        let acknowledged = of.postgres.acknowledged(shown);
        let epoch = of.postgres.epoch;
        for Waiting { place, commit } in acknowledged {
            let result = self.oracle.acknowledge(now, (place, commit, epoch), self.store.record());
            self.check(result);
        }
    }
}
