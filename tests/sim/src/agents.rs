//! The nodes: an agent, its disk, and PostgreSQL.

use std::time::Duration;

use pgha_machine::failover::agent::{Agent, Config, Effect, Event, Found, Kept};
use pgha_machine::{Epoch, Moment};

use crate::breach::Breach;
use crate::clock::{Clock, Time};
use crate::driver::UnderWay;
use crate::oracle::Violation;
use crate::postgres::{Postgres, State};
use crate::world::{Occurrence, World, controller_name, node_name};

/// A node.
pub(crate) struct Node {
    pub(crate) clock: Clock,
    pub(crate) agent: Option<Agent>,
    pub(crate) run: u64,
    pub(crate) kept: Kept,
    pub(crate) postgres: Postgres,
    /// The deadline that the agent gave last.
    pub(crate) armed: Option<Moment>,
    pub(crate) paused: Time,
    /// The whole machine stands still until then.
    pub(crate) halted: Time,
    pub(crate) off: bool,
    /// The writer VIP is here.
    pub(crate) address: bool,
    pub(crate) faulty: bool,
    /// `restore_command` is set.
    pub(crate) restores: bool,
    /// `synchronous_commit` is lowered for some role, of which nothing counts.
    pub(crate) lowered: bool,
    pub(crate) under_way: Option<UnderWay>,
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
            address: node == 0,
            faulty: false,
            restores: self.rng.u8(0..20) == 0,
            lowered: false,
            under_way: None,
            request: None,
            ticks: 0,
        });
        self.start_agent(node);
    }

    pub(crate) fn start_agent(&mut self, node: usize) {
        let controllers = (0..self.plan.controllers).map(controller_name).collect();
        let now = self.now;
        let known = self.rng.bool();
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
                open: !of.postgres.is_armed() && of.postgres.passes(shown),
                // What streams, and what would if PostgreSQL read its files.
                upstream: of.postgres.files.conninfo.or(of.postgres.upstream).map(node_name),
                wal: known.then(|| of.postgres.log.wal()),
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
            hand_over: self.plan.hand_over,
            rules: self.plan.rules,
        };
        of.agent = Some(Agent::new(config, of.kept.clone(), found, shown));
        let run = of.run;
        self.say(|| format!("agent of n{node} starts"));
        self.agent_hears(node, run, Event::Tick);
        if self.nodes[node].faulty {
            self.agent_hears(node, run, Event::Faulty(true));
        }
        if self.nodes[node].restores {
            self.agent_hears(node, run, Event::Restores(true));
        }
    }

    /// The agent's process ends.
    pub(crate) fn crash_agent(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        of.agent = None;
        if let Some(under_way) = of.under_way.take() {
            self.abandon(node, &under_way);
        }
    }

    pub(crate) fn power_off(&mut self, node: usize) {
        self.crash_agent(node);
        let of = &mut self.nodes[node];
        // Only what was flushed survives.
        of.postgres.lose(0);
        of.postgres.kill();
        of.off = true;
        of.address = false;
    }

    /// PostgreSQL ends by itself.
    pub(crate) fn crash_postgres(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        if of.off || of.postgres.state == State::Down {
            return;
        }
        let run = of.run;
        // The postmaster alone, or all of it.
        if self.rng.u8(0..3) == 0 {
            self.nodes[node].postgres.orphan();
        } else {
            self.lose_some(node);
            self.nodes[node].postgres.kill();
        }
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
        let kind = self.coverage.agent(agent.role(), &standing, &event);
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
            let step = self.step_of_agent(&effect);
            self.carry_out(node, run, effect);
            if self.ends_after(node, step) {
                self.crash_agent(node);
                return;
            }
        }
        if self.truth.is_some() {
            self.forgets_nothing(node);
        }
        if let Some(due) = due {
            let when = clock.when(due, now).max(now + 1);
            self.at(when, Occurrence::Tick { process: node, run, number });
        }
    }

    fn carry_out(&mut self, node: usize, run: u64, effect: Effect) {
        match effect {
            Effect::Store(request) => self.ask_store(node, run, request),
            Effect::Send { to, message } => self.send(node, &to, message),
            Effect::Do { number, command } => self.order(node, run, number, command),
            Effect::Arm(until) => {
                let forever = self.plan.breach == Some(Breach::OpenGate);
                let until = if forever { until + Duration::from_mins(1) } else { until };
                let of = &mut self.nodes[node];
                of.armed = Some(of.armed.map_or(until, |before| before.max(until)));
                if of.postgres.is_armed() {
                    of.postgres.arm(until);
                }
            }
            Effect::Copy { number, from } => self.copy(node, run, number, &from),
            Effect::Claim(epoch) => self.claim(node, epoch),
        }
    }

    /// The writer VIP is at one node, or at such as nothing passes the gate of any more.
    fn claim(&mut self, node: usize, epoch: Epoch) {
        let (now, kept) = (self.now, self.plan.breach == Some(Breach::KeptAddress));
        self.nodes[node].address = true;
        let others = self.nodes.iter_mut().enumerate().filter(|(number, _)| *number != node);
        let has = |of: &mut Node| of.address && (kept || of.postgres.passes(of.clock.at(now)));
        let two = others.filter_map(|(number, of)| has(of).then_some(number)).next();
        self.check(two.map_or(Ok(()), |at| Err(Violation::TwoAddresses { epoch, at })));
    }
}
