//! What goes on without anybody's order: clients write, standbys stream, agents look.

use std::collections::BTreeMap;

use pgha_machine::Lsn;
use pgha_machine::failover::agent::{Event, Role};
use pgha_machine::failover::record::Doubt;

use crate::breach::Breach;
use crate::clock::Time;
use crate::postgres::{State, Waiting};
use crate::world::{Occurrence, World, node_name};

impl World {
    /// Clients write, standbys stream, and the agent is told.
    pub(crate) fn pump(&mut self, node: usize) {
        let pause = self.rng.u64(25..60);
        self.after(pause, Occurrence::Pump { node });
        let now = self.now;
        if self.nodes[node].off || self.nodes[node].halted > now {
            return;
        }
        match self.nodes[node].postgres.state {
            State::Down if self.nodes[node].postgres.orphans => {
                self.flush(node);
                self.acknowledge(node, now);
            }
            State::Down => {}
            State::Standby => self.stream(node),
            State::Primary { admits } => {
                self.flush(node);
                let shown = self.nodes[node].clock.at(now);
                if self.nodes[node].postgres.passes(shown) && admits {
                    self.read(node);
                    self.commits += 1;
                    let commit = self.commits;
                    let pg = &mut self.nodes[node].postgres;
                    let place = pg.log.write(commit);
                    pg.unflushed += 1;
                    pg.waiting.push(Waiting { place, commit });
                }
                self.acknowledge(node, now);
            }
        }
        self.tell_agent(node);
    }

    /// What the agent sees when it looks.
    fn tell_agent(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        let (run, now) = (of.run, self.now);
        if of.agent.is_none() {
            return;
        }
        if of.postgres.is_shut(of.clock.at(now)) {
            self.agent_hears(node, run, Event::GateClosed);
            return;
        }
        if self.rng.u8(0..16) == 0 {
            let restores = self.nodes[node].restores;
            self.agent_hears(node, run, Event::Restores(restores));
        }
        let begins = Event::Begins(Lsn::new(self.nodes[node].postgres.begins as u64));
        if self.rng.u8(0..4) == 0 && self.nodes[node].postgres.state != State::Down {
            self.agent_hears(node, run, begins);
        }
        let of = &self.nodes[node];
        let pg = &of.postgres;
        let log = pg.durable();
        match pg.state {
            State::Down => {}
            State::Standby => self.agent_hears(node, run, Event::Log(log)),
            State::Primary { .. } => {
                // To an agent that knows it is nothing new.
                let known = of.agent.as_ref().is_some_and(|agent| {
                    matches!(agent.role(), Role::Restarted { .. } | Role::Primary)
                });
                if !known {
                    self.agent_hears(node, run, Event::OutOfRecovery);
                    return;
                }
                let recent = |(name, _): &(&pgha_machine::NodeName, &Lsn)| {
                    pg.heard.get(*name).is_some_and(|heard| heard + 250 > now)
                };
                let standbys: BTreeMap<_, _> = pg
                    .replies
                    .iter()
                    .filter(recent)
                    .map(|(name, lsn)| (name.clone(), *lsn))
                    .collect();
                let lowered = of.lowered.then(|| Doubt::Lowered("a role".to_owned()));
                self.agent_hears(node, run, Event::Log(log));
                self.agent_hears(node, run, Event::Standbys(standbys));
                if self.rng.u8(0..8) == 0 {
                    let doubts = lowered.into_iter().collect();
                    self.agent_hears(node, run, Event::Doubts(doubts));
                }
            }
        }
    }

    /// What was written comes to the disk, mostly.
    fn flush(&mut self, node: usize) {
        if self.rng.u8(0..6) > 0 {
            self.nodes[node].postgres.unflushed = 0;
        }
    }

    fn stream(&mut self, node: usize) {
        self.flush(node);
        let Some(of) = self.nodes[node].postgres.upstream else { return };
        let now = self.now;
        let source = &mut self.nodes[of];
        let runs = !source.off && source.halted <= now && source.postgres.state != State::Down;
        let shown = source.clock.at(now);
        if !runs || !source.postgres.passes(shown) || !self.reaches(node, of) {
            return;
        }
        let own = &mut self.nodes[node];
        if !own.postgres.passes(own.clock.at(now)) {
            return;
        }
        let count = if self.rng.u8(0..4) == 0 { 0 } else { self.rng.usize(1..8) };
        let life = self.nodes[of].postgres.life;
        let [own, other] = self.nodes.get_disjoint_mut([node, of]).expect("nobody follows itself");
        if !own.postgres.log.begins(&other.postgres.log) {
            return;
        }
        if own.postgres.log.len() < other.postgres.begins {
            return;
        }
        // Only what is flushed is sent.
        let before = own.postgres.log.len();
        let count = count.min(other.postgres.flushed().saturating_sub(before));
        own.postgres.log.follow(&other.postgres.log, count);
        own.postgres.unflushed += own.postgres.log.len() - before;
        let lsn = Lsn::new(own.postgres.flushed() as u64);
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
            let known = pg.replies.entry(node_name(from)).or_insert(lsn);
            *known = (*known).max(lsn);
            pg.heard.insert(node_name(from), now);
            self.acknowledge(to, now);
        }
    }

    /// Tells clients what is done.
    pub(crate) fn acknowledge(&mut self, node: usize, now: Time) {
        let of = &mut self.nodes[node];
        let shown = of.clock.at(now);
        let acknowledged = match self.plan.breach {
            Some(Breach::WaitsForNobody) => of.postgres.waiting.drain(..).collect(),
            _ => of.postgres.acknowledged(shown),
        };
        for waiting in acknowledged {
            self.told(node, waiting);
        }
    }
}
