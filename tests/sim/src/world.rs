//! The world: what happens when, and to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use pgha_machine::failover::agent;
use pgha_machine::failover::coordinator;
use pgha_machine::failover::message::Message;
use pgha_machine::failover::record::Record;
use pgha_machine::failover::{Answer, Request};
use pgha_machine::{Lsn, NodeName, Position, Timeline, Wal};

use crate::agents::Node;
use crate::clock::Time;
use crate::controllers::Controller;
use crate::copies::UnderCopy;
use crate::coverage::Coverage;
use crate::driver::Late;
use crate::faults::Fault;
use crate::lame::Illness;
use crate::operators::member;
use crate::oracle::{Oracle, Violation};
use crate::plan::Plan;
use crate::store::{Backup, Store};
use crate::stories::{self, Steps, Story};

/// How long before the end of a schedule that shows progress something must have been acknowledged.
const IDLE: Time = 2_500;

/// A process: the agents first, then the controllers, then the store.
pub(crate) type Process = usize;

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
    /// A command begins, has done what it does, and is reported.
    Begin {
        node: usize,
        run: u64,
        number: u64,
    },
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
    /// A copy of another node comes to its end.
    Copied {
        node: usize,
        run: u64,
        copy: UnderCopy,
    },
    /// PostgreSQL does what nobody waits for any more.
    Late {
        node: usize,
        late: Late,
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
    /// An operator gives an order.
    Operator,
    /// A fault, or the end of one.
    Fault,
    End(Fault),
    /// What the plan tells begins.
    Story,
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
    /// Of how many nodes clients could have something acknowledged in the end.
    pub primaries: usize,
    /// How many effects each process carried out in the story, the agents before the controllers.
    pub effects: Vec<u64>,
    /// After which effect a process ended, if one did.
    pub ended: Option<&'static str>,
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
    /// The node that stays ill.
    pub(crate) ill: Option<(usize, Illness)>,
    pub(crate) backups: Vec<Backup>,
    /// What the record was before the store was put back from one. Only an operator can say what is to be then.
    pub(crate) truth: Option<Record>,
    pub(crate) requests: u64,
    pub(crate) steps: Steps,
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
    if plan.shows_progress() && world.truth.is_none() && world.oracle.last + IDLE < plan.end {
        world.say_how_it_is();
        world.check(Err(Violation::NoProgress));
    }
    let primaries = world.primaries();
    Outcome {
        violation: world.violation,
        trace: world.trace.finish(),
        coverage: world.coverage,
        acknowledged: world.oracle.count,
        epoch: world.store.record().epoch.get(),
        events,
        primaries,
        effects: world.steps.counts(world.plan.nodes + world.plan.controllers),
        ended: world.steps.ended,
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
        let late = if plan.nodes > 3 && rng.bool() { Some(plan.nodes - 1) } else { None };
        let others = (1..plan.nodes).filter(|node| Some(*node) != late);
        let others = others.map(|node| (node_name(node), member(&mut rng))).collect();
        let founded = Record::founded(&node_name(0), &wal, &others, plan.mode, plan.pace);
        // The founder has confirmed those who were there from the beginning.
        let renewed = founded.and_then(|record| record.renew(&node_name(0), 0, Lsn::new(0)));
        let record = renewed.expect("there are enough nodes");
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
            ill: None,
            backups: Vec::new(),
            truth: None,
            requests: 0,
            steps: Steps::default(),
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
        let devices = self.rng.u8(0..4) == 0 || self.plan.story == Some(Story::TurnedOff);
        for of in 0..self.plan.controllers {
            self.add_controller(of, devices);
        }
        let first = self.rng.u64(0..self.plan.faults * 2);
        self.after(first, Occurrence::Fault);
        self.after(self.plan.calm, Occurrence::Calm);
        if self.plan.story.is_some() {
            self.after(stories::BEGINS, Occurrence::Story);
        }
        if self.plan.operators > 0 {
            let first = self.rng.u64(0..self.plan.operators * 2);
            self.after(first, Occurrence::Operator);
        }
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

    /// Tells what everybody makes of it.
    fn say_how_it_is(&self) {
        for (node, of) in self.nodes.iter().enumerate() {
            let agent = of.agent.as_ref();
            let role = agent.map(|agent| (agent.role().clone(), agent.standing()));
            let wal = agent.and_then(|agent| agent.wal().cloned());
            self.say(|| format!("n{node}: {role:?} {wal:?} {:?}", of.postgres.state));
        }
        for (number, of) in self.controllers.iter().enumerate() {
            let why = of.coordinator.as_ref().map(|it| (it.stage(), it.why_not()));
            self.say(|| format!("c{number}: {why:?}"));
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

    pub(crate) fn mark(&mut self, what: (u8, usize, usize)) {
        what.hash(&mut self.trace);
    }

    pub(crate) const fn store_process(&self) -> Process {
        self.plan.nodes + self.plan.controllers
    }

    pub(crate) fn processes(&self) -> usize {
        self.store_process() + 1
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
            Occurrence::Begin { node, run, number } => self.begin_command(node, run, number),
            Occurrence::Copied { node, run, copy } => self.copied(node, run, copy),
            Occurrence::Late { node, late } => self.come_late(node, late),
            Occurrence::Apply { node, run, number } => self.apply(node, run, number),
            Occurrence::Report { node, run, number } => self.report(node, run, number),
            Occurrence::Pump { node } => self.pump(node),
            Occurrence::Flushed { from, to, life, lsn } => self.flushed(from, to, life, lsn),
            Occurrence::Operator => self.operate(),
            Occurrence::Fault => self.fault(),
            Occurrence::End(fault) => self.end_of(&fault),
            Occurrence::Story => self.tell(),
            Occurrence::Calm => self.calm_down(),
            Occurrence::Join { node } => self.join(node),
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
