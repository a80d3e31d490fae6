//! The network, and the way to the store: loss, delay, and who cannot reach whom.

use pgha_machine::NodeName;
use pgha_machine::failover::agent;
use pgha_machine::failover::coordinator;
use pgha_machine::failover::message::Message;
use pgha_machine::failover::record::Record;
use pgha_machine::failover::{Answer, Request, Written};

use crate::clock::Time;
use crate::oracle::Oracle;
use crate::world::{Occurrence, Process, World, controller_name, node_name};

/// How long the driver of a machine waits for the store.
const PATIENCE: Time = 120;

impl World {
    pub(crate) fn reaches(&self, a: Process, b: Process) -> bool {
        !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// A time in the network.
    pub(crate) fn delay(&mut self) -> Time {
        let late = !self.calm && self.rng.u32(0..1_000) < self.plan.late;
        match (late, late && self.rng.u8(0..4) == 0) {
            (_, true) => self.rng.u64(500..3_500),
            (true, false) => self.rng.u64(20..500),
            (false, false) => self.rng.u64(1..15),
        }
    }

    pub(crate) fn lost(&mut self) -> bool {
        !self.calm && self.rng.u32(0..1_000) < self.plan.loss
    }

    pub(crate) fn process_of(&self, name: &NodeName) -> Option<Process> {
        let number = name.as_str().get(1..)?.parse::<usize>().ok()?;
        let agent = name.as_str().starts_with('n');
        Some(if agent { number } else { self.plan.nodes + number })
    }

    pub(crate) fn send(&mut self, from: Process, to: &NodeName, message: Message) {
        let Some(to) = self.process_of(to) else { return };
        if self.lost() || !self.reaches(from, to) {
            return;
        }
        if !self.calm && self.rng.u32(0..1_000) < self.plan.doubled {
            let delay = self.delay();
            self.after(delay, Occurrence::Deliver { from, to, message: message.clone() });
        }
        let delay = self.delay();
        self.after(delay, Occurrence::Deliver { from, to, message });
    }

    pub(crate) fn deliver(&mut self, from: Process, to: Process, message: Message) {
        if !self.reaches(from, to) {
            return;
        }
        let name = |process: Process| match process.checked_sub(self.plan.nodes) {
            None => node_name(process),
            Some(of) => controller_name(of),
        };
        let from = name(from);
        match to.checked_sub(self.plan.nodes) {
            None => {
                let run = self.nodes[to].run;
                self.agent_hears(to, run, agent::Event::Heard { from, message });
            }
            Some(of) => {
                let run = self.controllers[of].run;
                self.controller_hears(of, run, coordinator::Event::Heard { from, message });
            }
        }
    }

    /// A machine asks the store. It is answered once: by the store, or by its driver's patience.
    pub(crate) fn ask_store(&mut self, from: Process, run: u64, what: Request) {
        self.requests += 1;
        let request = self.requests;
        match from.checked_sub(self.plan.nodes) {
            None => self.nodes[from].request = Some(request),
            Some(of) => self.controllers[of].request = Some(request),
        }
        let nothing = match &what {
            Request::Read => Answer::Read(None),
            Request::Put { .. } => Answer::Written(Written::Unknown),
        };
        if self.store.down || !self.reaches(from, self.store_process()) {
            let refused = match what {
                Request::Read => Answer::Read(None),
                Request::Put { .. } => Answer::Written(Written::Failed),
            };
            let delay = self.rng.u64(1..PATIENCE);
            self.after(delay, Occurrence::Answer { to: from, run, request, answer: refused });
            return;
        }
        self.after(PATIENCE, Occurrence::Answer { to: from, run, request, answer: nothing });
        if !self.lost() {
            let delay = self.delay();
            self.after(delay, Occurrence::Arrive { from, run, request, what });
        }
    }

    pub(crate) fn arrive(&mut self, from: Process, run: u64, request: u64, what: Request) {
        if self.store.down || !self.reaches(from, self.store_process()) {
            return;
        }
        let answer = match what {
            Request::Read => Answer::Read(Some(self.store.reading())),
            Request::Put { expected, record } => {
                let put = self.put(expected, *record);
                Answer::Written(put.map_or(Written::Conflict, Written::Done))
            }
        };
        if !self.lost() {
            let delay = self.delay();
            self.after(delay, Occurrence::Answer { to: from, run, request, answer });
        }
    }

    /// Puts a record, and tells everybody who watches.
    pub(crate) fn put(&mut self, expected: pgha_machine::Mark, record: Record) -> Option<u64> {
        let before = self.store.record().clone();
        let revision = self.store.put(expected, record)?;
        let after = self.store.record().clone();
        self.say(|| describe(&before, &after, revision));
        self.coverage.write(&before, &after);
        self.check(Oracle::writes(&before, &after));
        if before.epoch != after.epoch {
            self.oracle.granted(self.now, &before);
        }
        if let Some(holder) = after.holder().and_then(|holder| self.process_of(holder)) {
            self.announced(holder);
        }
        self.goes_on_by(&after);
        let reading = self.store.reading();
        for process in 0..self.store_process() {
            if self.lost() || !self.reaches(process, self.store_process()) {
                continue;
            }
            let delay = self.delay();
            let reading = reading.clone();
            let told = match process.checked_sub(self.plan.nodes) {
                None => Occurrence::Agent {
                    node: process,
                    run: self.nodes[process].run,
                    event: agent::Event::Store(Answer::Changed(reading)),
                },
                Some(of) => Occurrence::Controller {
                    of,
                    run: self.controllers[of].run,
                    event: coordinator::Event::Store(Answer::Changed(reading)),
                },
            };
            self.after(delay, told);
        }
        Some(revision)
    }

    pub(crate) fn answer(&mut self, to: Process, run: u64, request: u64, answer: Answer) {
        let refused = self.store.down || !self.reaches(to, self.store_process());
        let good = matches!(
            answer,
            Answer::Read(Some(_)) | Answer::Written(Written::Done(_) | Written::Conflict)
        );
        if refused && good {
            return;
        }
        match to.checked_sub(self.plan.nodes) {
            None => {
                if self.nodes[to].request.take_if(|of| *of == request).is_some() {
                    self.agent_hears(to, run, agent::Event::Store(answer));
                }
            }
            Some(of) => {
                if self.controllers[of].request.take_if(|of| *of == request).is_some() {
                    self.controller_hears(of, run, coordinator::Event::Store(answer));
                }
            }
        }
    }
}

/// One line for a person.
fn describe(before: &Record, after: &Record, revision: u64) -> String {
    let mut words = vec![format!("record {revision}:")];
    if before.epoch != after.epoch {
        words.push(format!("epoch {} for {}", after.epoch, after.lease.node()));
    }
    if before.lease != after.lease {
        words.push(format!("{:?}", after.lease));
    }
    if before.freeze != after.freeze {
        words.push(format!("{:?}", after.freeze));
    }
    if before.nomination != after.nomination {
        words.push(format!("{:?}", after.nomination));
    }
    if before.voters != after.voters {
        words.push(format!("{:?}", after.voters));
    }
    words.join(" ")
}
