//! What goes wrong.

use pgha_machine::failover::agent::Event;

use crate::clock::Time;
use crate::lame::Illness;
use crate::world::{Occurrence, Process, World};

/// A fault that lasts.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The agent's process is gone.
    Agent(usize),
    /// The machine is gone; its disk stays.
    Node(usize),
    /// The controller's process is gone.
    Controller(usize),
    /// These cannot reach each other.
    Cut(Vec<(Process, Process)>),
    /// The store answers nobody.
    Store,
    /// The disk of the node does not write, or the link of its address is down.
    Faulty(usize),
}

impl World {
    /// Something goes wrong, and is mended some time later.
    pub(crate) fn fault(&mut self) {
        if self.calm {
            return;
        }
        if self.plan.restores {
            if self.rng.u8(0..8) == 0 {
                self.put_back();
            }
            self.back_up();
        }
        let pause = self.rng.u64(self.plan.faults / 4..self.plan.faults * 2);
        self.after(pause, Occurrence::Fault);
        let node = self.target();
        let controller = self.rng.usize(0..self.plan.controllers);
        let lasts = [60, 400, 1_500, 4_000][self.rng.usize(0..4)];
        let lasts = self.rng.u64(lasts / 2..lasts);
        let kind = self.rng.u8(0..16);
        let fault = match kind {
            0 => {
                self.say(|| format!("FAULT agent of n{node} crashes"));
                self.crash_agent(node);
                Fault::Agent(node)
            }
            1 => {
                self.say(|| format!("FAULT n{node} is gone"));
                self.power_off(node);
                Fault::Node(node)
            }
            2 => {
                self.say(|| format!("FAULT c{controller} crashes"));
                self.crash_controller(controller);
                Fault::Controller(controller)
            }
            3..=7 => self.part(kind, node),
            8 => {
                self.say(|| "FAULT the store is down".to_owned());
                self.store.down = true;
                Fault::Store
            }
            9..=14 => return self.passing(kind, node, controller, lasts),
            _ => {
                self.say(|| format!("FAULT n{node} is faulty"));
                self.faulty(node, true);
                Fault::Faulty(node)
            }
        };
        self.after(lasts, Occurrence::End(fault));
    }

    /// Some cannot reach others any more.
    fn part(&mut self, kind: u8, node: usize) -> Fault {
        match kind {
            5 => {
                let half: Vec<_> = (0..self.processes()).filter(|_| self.rng.bool()).collect();
                self.cut_off(&half)
            }
            6 => {
                let (a, b) = (self.rng.usize(0..self.processes()), node);
                self.cut_pairs(vec![(a.min(b), a.max(b))])
            }
            7 => {
                let store = self.processes() - 1;
                self.cut_pairs(vec![(node, store)])
            }
            _ => self.cut_off(&[node]),
        }
    }

    /// What has an end from the beginning, or is over at once.
    fn passing(&mut self, kind: u8, node: usize, controller: usize, lasts: Time) {
        let until = self.now + lasts;
        let put_off = |time: &mut Time| *time = until.max(*time);
        match kind {
            9 => {
                self.say(|| format!("FAULT agent of n{node} is paused for {lasts}"));
                put_off(&mut self.nodes[node].paused);
            }
            10 => {
                self.say(|| format!("FAULT n{node} stands still for {lasts}"));
                put_off(&mut self.nodes[node].halted);
            }
            11 => {
                self.say(|| format!("FAULT c{controller} is paused for {lasts}"));
                put_off(&mut self.controllers[controller].paused);
            }
            12 => {
                self.say(|| format!("FAULT PostgreSQL of n{node} crashes"));
                self.crash_postgres(node);
            }
            13 => {
                let but = self.rng.usize(0..4);
                self.say(|| format!("FAULT n{node} removes its log but for {but}"));
                self.nodes[node].postgres.remove(but);
            }
            _ => {
                self.say(|| format!("FAULT a role of n{node} waits for nobody, or no more"));
                self.nodes[node].lowered ^= true;
            }
        }
    }

    /// The primary more often than others.
    fn target(&mut self) -> usize {
        let primary = self.process_of(self.store.record().lease.node());
        match primary {
            Some(primary) if self.rng.bool() => primary,
            _ => self.rng.usize(0..self.plan.nodes),
        }
    }

    /// Nobody of `group` reaches anybody else.
    pub(crate) fn cut_off(&mut self, group: &[Process]) -> Fault {
        let mut pairs = Vec::new();
        for a in 0..self.processes() {
            for b in a + 1..self.processes() {
                if group.contains(&a) != group.contains(&b) {
                    pairs.push((a, b));
                }
            }
        }
        self.cut_pairs(pairs)
    }

    pub(crate) fn cut_pairs(&mut self, pairs: Vec<(Process, Process)>) -> Fault {
        self.say(|| format!("FAULT cut {pairs:?}"));
        self.cut.extend(&pairs);
        Fault::Cut(pairs)
    }

    pub(crate) fn faulty(&mut self, node: usize, faulty: bool) {
        self.nodes[node].faulty = faulty;
        let run = self.nodes[node].run;
        self.agent_hears(node, run, Event::Faulty(faulty));
    }

    /// A fault is mended.
    pub(crate) fn end_of(&mut self, fault: &Fault) {
        self.say(|| format!("END {fault:?}"));
        match fault {
            Fault::Agent(node) | Fault::Node(node) if self.stays(*node, Illness::NoAgent) => {}
            Fault::Node(node) if self.stays(*node, Illness::Off) => {}
            Fault::Faulty(node) if self.stays(*node, Illness::Faulty) => {}
            Fault::Agent(node) => self.start_agent(*node),
            Fault::Node(node) => {
                self.nodes[*node].off = false;
                self.start_agent(*node);
            }
            Fault::Controller(of) => self.start_controller(*of),
            Fault::Cut(pairs) => {
                for pair in pairs {
                    self.cut.remove(pair);
                }
            }
            Fault::Store => self.store.down = false,
            Fault::Faulty(node) => self.faulty(*node, false),
        }
    }

    /// Everything is mended, and nothing goes wrong any more.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.cut.clear();
        self.end_of(&Fault::Store);
        self.welcome_all();
        self.fall_ill();
        for node in 0..self.plan.nodes {
            self.end_of(&Fault::Faulty(node));
            self.end_of(&Fault::Node(node));
        }
        for of in 0..self.plan.controllers {
            self.start_controller(of);
        }
    }
}
