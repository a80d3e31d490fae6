//! The controllers.

use std::collections::BTreeSet;

use pgha_machine::failover::Answer;
use pgha_machine::failover::coordinator::{Config, Coordinator, Effect, Event};
use pgha_machine::{Epoch, NodeName};

use crate::breach::Breach;
use crate::clock::{Clock, Time};
use crate::faults::Fault;
use crate::world::{Occurrence, World, controller_name, node_name};

/// A controller.
pub(crate) struct Controller {
    clock: Clock,
    pub(crate) coordinator: Option<Coordinator>,
    devices: BTreeSet<NodeName>,
    pub(crate) run: u64,
    pub(crate) paused: Time,
    pub(crate) request: Option<u64>,
    pub(crate) ticks: u64,
}

impl World {
    pub(crate) fn add_controller(&mut self, of: usize, devices: bool) {
        let nodes = (0..self.plan.nodes).map(node_name);
        let controller = Controller {
            clock: Clock::draw(&mut self.rng),
            coordinator: None,
            devices: nodes.filter(|_| devices).collect(),
            run: 0,
            paused: 0,
            request: None,
            ticks: 0,
        };
        self.controllers.push(controller);
        self.start_controller(of);
    }

    pub(crate) fn start_controller(&mut self, of: usize) {
        let others = (0..self.plan.controllers).filter(|other| *other != of).map(controller_name);
        let controllers = others.collect();
        let controller = &mut self.controllers[of];
        if controller.coordinator.is_some() {
            return;
        }
        controller.run += 1;
        controller.request = None;
        let config = Config {
            name: controller_name(of),
            controllers,
            devices: controller.devices.clone(),
            rules: self.plan.rules,
        };
        controller.coordinator = Some(Coordinator::new(config, controller.clock.at(self.now)));
        let run = controller.run;
        self.controller_hears(of, run, Event::Tick);
    }

    pub(crate) fn crash_controller(&mut self, of: usize) {
        self.controllers[of].coordinator = None;
    }

    pub(crate) fn controller_hears(&mut self, of: usize, run: u64, event: Event) {
        let now = self.now;
        let controller = &mut self.controllers[of];
        if controller.run != run || controller.coordinator.is_none() {
            return;
        }
        if controller.paused > now {
            let until = controller.paused;
            self.at(until, Occurrence::Controller { of, run, event });
            return;
        }
        let shown = controller.clock.at(now);
        let Some(coordinator) = controller.coordinator.as_mut() else { return };
        self.coverage.coordinator(coordinator.stage(), &event);
        let kind = match &event {
            Event::Store(Answer::Read(_)) => 0,
            Event::Store(Answer::Changed(_)) => 1,
            Event::Store(Answer::Written(_)) => 2,
            Event::Heard { .. } => 3,
            Event::TurnedOff { .. } => 4,
            Event::Tick => 5,
            Event::Ordered { .. } => 6,
        };
        coordinator.handle(shown, event);
        let mut effects = Vec::new();
        while let Some(effect) = coordinator.poll_effect() {
            effects.push(effect);
        }
        let due = coordinator.poll_timeout(shown);
        let clock = controller.clock;
        controller.ticks += 1;
        let number = controller.ticks;
        let process = self.plan.nodes + of;
        self.mark((1, of, kind));
        for effect in effects {
            let step = self.step_of_controller(&effect);
            match effect {
                Effect::Store(request) => self.ask_store(process, run, request),
                Effect::Send { to, message } => self.send(process, &to, message),
                Effect::TurnOff { node, renewal } => self.turn_off(of, run, node, renewal),
                Effect::Answered { number, result } => {
                    self.say(|| format!("ORDER {number}: {result:?}"));
                    self.coverage.answered(&result);
                }
            }
            if self.ends_after(process, step) {
                self.crash_controller(of);
                return;
            }
        }
        if let Some(due) = due {
            let when = clock.when(due, now).max(now + 1);
            self.at(when, Occurrence::Tick { process, run, number });
        }
    }

    /// A fence device does it or not, and says so or not. The node may be back before that is heard.
    fn turn_off(&mut self, of: usize, run: u64, node: NodeName, renewal: (Epoch, u64)) {
        let Some(target) = self.process_of(&node) else { return };
        let (does, says) = match self.rng.u8(0..8) {
            0 => (false, false),
            1 => (true, false),
            _ => (true, true),
        };
        if does {
            self.say(|| format!("{node} is turned off"));
            if self.plan.breach != Some(Breach::LyingDevice) {
                self.power_off(target);
            }
            // It comes back by itself, or somebody turns it on.
            let back = if self.rng.u8(0..3) == 0 { 20..300 } else { 300..3_000 };
            let back = self.rng.u64(back);
            self.after(back, Occurrence::End(Fault::Node(target)));
        }
        let most = if self.rng.u8(0..4) == 0 { 3_000 } else { 300 };
        let delay = self.rng.u64(20..most);
        let event = Event::TurnedOff { node, renewal, off: says };
        self.after(delay, Occurrence::Controller { of, run, event });
    }
}
