//! The world: what happens when, and to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use pgha_machine::failover::agent;
use pgha_machine::failover::coordinator;
use pgha_machine::failover::message::{Message, Reading};
use pgha_machine::failover::record::{Member, Record};
use pgha_machine::failover::{Request, Written};
use pgha_machine::{Lsn, NodeName, Position, Timeline, Wal};

use crate::agents::Node;
use crate::clock::Time;
use crate::controllers::Controller;
use crate::coverage::Coverage;
use crate::faults::Fault;
use crate::oracle::{Oracle, Violation};
use crate::plan::Plan;
use crate::store::Store;

/// How long the driver of a machine waits for the store.
const PATIENCE: Time = 120;
/// How long before the end of a schedule that shows progress something must have been acknowledged.
const IDLE: Time = 2_500;

/// A process: the agents first, then the controllers, then the store.
pub(crate) type Process = usize;

/// An answer of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Read(Option<Box<Reading>>),
    Written(Written),
}

/// Something that happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Occurrence {
    /// To an agent, or a controller, if it is still that process.
    Agent {
        node: usize,
        run: u64,
        event: agent::Event,
    },
    Controller {
        of: usize,
        run: u64,
        event: coordinator::Event,
    },
    /// A message comes out of the network.
    Deliver {
        from: Process,
        to: Process,
        message: Message,
    },
    /// A request comes to the store.
    Arrive {
        from: Process,
        run: u64,
        request: u64,
        what: Request,
    },
    /// An answer comes back, or the driver gives up.
    Answer {
        to: Process,
        run: u64,
        request: u64,
        answer: Answer,
    },
    /// A machine wants to be called.
    Tick {
        process: Process,
        run: u64,
        number: u64,
    },
    /// A command does what it does, and is reported.
    Apply {
        node: usize,
        run: u64,
        number: u64,
    },
    Report {
        node: usize,
        run: u64,
        number: u64,
    },
    /// PostgreSQL goes on: clients write, standbys stream.
    Pump {
        node: usize,
    },
    /// A standby tells from where it streams how far it has flushed.
    Flushed {
        from: usize,
        to: usize,
        life: u64,
        lsn: Lsn,
    },
    /// A fault, or the end of one.
    Fault,
    End(Fault),
    /// All faults end.
    Calm,
    /// A node joins the cluster.
    Join {
        node: usize,
    },
}

/// What came of a schedule.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first thing that must never be, and when.
    pub violation: Option<(Time, Violation)>,
    /// Of everything that happened, in order: two schedules with the same are the same.
    pub trace: u64,
    /// Which combinations were met.
    pub coverage: Coverage,
    /// How many commits were acknowledged.
    pub acknowledged: usize,
    /// The last epoch.
    pub epoch: u64,
    /// How many things happened.
    pub events: u64,
}

/// Everything.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: Time,
    queue: BTreeMap<(Time, u64), Box<Occurrence>>,
    queued: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) store: Store,
    /// Which pairs cannot reach each other, the smaller number first.
    pub(crate) cut: BTreeSet<(Process, Process)>,
    pub(crate) oracle: Oracle,
    pub(crate) coverage: Coverage,
    pub(crate) commits: u32,
    pub(crate) calm: bool,
    requests: u64,
    trace: DefaultHasher,
    pub(crate) violation: Option<(Time, Violation)>,
    /// Says what happens, for a person.
    pub(crate) verbose: bool,
}

/// Plays a plan to its end, or to the first violation.
#[must_use]
pub fn run(plan: &Plan, verbose: bool) -> Outcome {
    let mut world = World::new(plan.clone(), verbose);
    let mut events = 0;
    while world.violation.is_none()
        && let Some(((time, _), occurrence)) = world.queue.pop_first()
    {
        if time > world.plan.end {
            break;
        }
        world.now = time;
        events += 1;
        world.happen(*occurrence);
    }
    world.now = world.plan.end;
    if plan.shows_progress() && world.oracle.last + IDLE < plan.end {
        world.check(Err(Violation::NoProgress));
    }
    Outcome {
        violation: world.violation,
        trace: world.trace.finish(),
        coverage: world.coverage,
        acknowledged: world.oracle.count,
        epoch: world.store.record().epoch.get(),
        events,
    }
}

pub(crate) fn node_name(node: usize) -> NodeName {
    format!("n{node}").parse().expect("a legal name")
}

pub(crate) fn controller_name(of: usize) -> NodeName {
    format!("c{of}").parse().expect("a legal name")
}

impl World {
    fn new(plan: Plan, verbose: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0x9e37_79b9_7f4a_7c15);
        let wal = Wal {
            end: Position { timeline: Timeline::new(1), lsn: Lsn::new(0) },
            left: Vec::new(),
        };
        let mut record = Record::founded(node_name(0), &wal, plan.mode, plan.pace);
        let late = if plan.nodes > 3 && rng.bool() { Some(plan.nodes - 1) } else { None };
        for node in (1..plan.nodes).filter(|node| Some(*node) != late) {
            record = record.join(node_name(node), &member(&mut rng)).expect("it is no member yet");
        }
        // The founder has confirmed those who were there from the beginning.
        record = record.renew(&node_name(0), 0, Lsn::new(0)).expect("it holds the lease");
        let mut world = Self {
            nodes: Vec::new(),
            controllers: Vec::new(),
            store: Store::with(record),
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            cut: BTreeSet::new(),
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            commits: 0,
            calm: false,
            requests: 0,
            trace: DefaultHasher::new(),
            violation: None,
            verbose,
            rng,
            plan,
        };
        world.begin(late);
        world
    }

    fn begin(&mut self, late: Option<usize>) {
        for node in 0..self.plan.nodes {
            self.add_node(node);
            let first = self.rng.u64(0..30);
            self.after(first, Occurrence::Pump { node });
        }
        let devices = self.rng.u8(0..4) == 0;
        for of in 0..self.plan.controllers {
            self.add_controller(of, devices);
        }
        let first = self.rng.u64(0..self.plan.faults * 2);
        self.after(first, Occurrence::Fault);
        self.after(self.plan.calm, Occurrence::Calm);
        if let Some(node) = late {
            let when = self.rng.u64(200..self.plan.calm);
            self.after(when, Occurrence::Join { node });
        }
    }

    pub(crate) fn after(&mut self, delay: Time, occurrence: Occurrence) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), Box::new(occurrence));
    }

    pub(crate) fn at(&mut self, time: Time, occurrence: Occurrence) {
        self.after(time.saturating_sub(self.now), occurrence);
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>6} {}", self.now, what());
        }
    }

    pub(crate) fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.say(|| format!("VIOLATION {violation}"));
            self.violation = Some((self.now, violation));
        }
    }

    pub(crate) fn mark(&mut self, what: (u8, usize, u8)) {
        what.hash(&mut self.trace);
    }

    const fn store_process(&self) -> Process {
        self.plan.nodes + self.plan.controllers
    }

    pub(crate) fn processes(&self) -> usize {
        self.store_process() + 1
    }

    pub(crate) fn reaches(&self, a: Process, b: Process) -> bool {
        !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// A time in the network.
    pub(crate) fn delay(&mut self) -> Time {
        let late = !self.calm && self.rng.u32(0..1_000) < self.plan.late;
        if late { self.rng.u64(20..500) } else { self.rng.u64(1..15) }
    }

    pub(crate) fn lost(&mut self) -> bool {
        !self.calm && self.rng.u32(0..1_000) < self.plan.loss
    }

    fn happen(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Agent { node, run, event } => self.agent_hears(node, run, event),
            Occurrence::Controller { of, run, event } => self.controller_hears(of, run, event),
            Occurrence::Deliver { from, to, message } => self.deliver(from, to, message),
            Occurrence::Arrive { from, run, request, what } => {
                self.arrive(from, run, request, what);
            }
            Occurrence::Answer { to, run, request, answer } => {
                self.answer(to, run, request, answer);
            }
            Occurrence::Tick { process, run, number } => self.tick(process, run, number),
            Occurrence::Apply { node, run, number } => self.apply(node, run, number),
            Occurrence::Report { node, run, number } => self.report(node, run, number),
            Occurrence::Pump { node } => self.pump(node),
            Occurrence::Flushed { from, to, life, lsn } => self.flushed(from, to, life, lsn),
            Occurrence::Fault => self.fault(),
            Occurrence::End(fault) => self.end_of(&fault),
            Occurrence::Calm => self.calm_down(),
            Occurrence::Join { node } => self.join(node),
        }
    }

    fn join(&mut self, node: usize) {
        let reading = self.store.reading();
        let member = member(&mut self.rng);
        if let Some(record) = reading.record
            && let Ok(next) = record.join(node_name(node), &member)
        {
            self.say(|| format!("n{node} joins"));
            self.put(reading.mark, next);
        }
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
        let delay = self.delay();
        self.after(delay, Occurrence::Deliver { from, to, message });
    }

    fn deliver(&mut self, from: Process, to: Process, message: Message) {
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

    fn arrive(&mut self, from: Process, run: u64, request: u64, what: Request) {
        if self.store.down || !self.reaches(from, self.store_process()) {
            return;
        }
        let answer = match what {
            Request::Read => Answer::Read(Some(Box::new(self.store.reading()))),
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
    fn put(&mut self, expected: pgha_machine::Mark, record: Record) -> Option<u64> {
        let before = self.store.record().clone();
        let revision = self.store.put(expected, record)?;
        let after = self.store.record().clone();
        self.say(|| describe(&before, &after, revision));
        self.check(Oracle::writes(&before, &after));
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
                    event: agent::Event::Changed(reading),
                },
                Some(of) => Occurrence::Controller {
                    of,
                    run: self.controllers[of].run,
                    event: coordinator::Event::Changed(reading),
                },
            };
            self.after(delay, told);
        }
        Some(revision)
    }

    fn answer(&mut self, to: Process, run: u64, request: u64, answer: Answer) {
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
                    let event = match answer {
                        Answer::Read(reading) => agent::Event::Read(reading.map(|it| *it)),
                        Answer::Written(written) => agent::Event::Written(written),
                    };
                    self.agent_hears(to, run, event);
                }
            }
            Some(of) => {
                if self.controllers[of].request.take_if(|of| *of == request).is_some() {
                    let event = match answer {
                        Answer::Read(reading) => coordinator::Event::Read(reading.map(|it| *it)),
                        Answer::Written(written) => coordinator::Event::Written(written),
                    };
                    self.controller_hears(of, run, event);
                }
            }
        }
    }

    fn tick(&mut self, process: Process, run: u64, number: u64) {
        match process.checked_sub(self.plan.nodes) {
            None => {
                if self.nodes[process].ticks == number {
                    self.agent_hears(process, run, agent::Event::Tick);
                }
            }
            Some(of) => {
                if self.controllers[of].ticks == number {
                    self.controller_hears(of, run, coordinator::Event::Tick);
                }
            }
        }
    }
}

fn member(rng: &mut fastrand::Rng) -> Member {
    Member { confirmed: false, nofailover: rng.u8(0..8) == 0, priority: rng.i32(0..3) }
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
