//! The whole of a case at one moment.

use std::collections::BTreeMap;

use pgha_machine::failover::agent::{Agent, Command, Config, Found, Kept};
use pgha_machine::failover::coordinator::{self, Coordinator};
use pgha_machine::failover::message::{Message, Reading, Report};
use pgha_machine::failover::record::{Doubt, Member, Mode, Proof, Record};
use pgha_machine::failover::voters::VoterSet;
use pgha_machine::failover::{Answer, Request};
use pgha_machine::{Epoch, Lsn, Moment, NodeName, Position, Timeline, Wal};

use super::case::{Begins, Case, Fault};
use super::shared::Shared;
use crate::oracle::{Oracle, Violation};
use crate::postgres::{Postgres, State as Runs};
use crate::store::Store;
use crate::world::{controller_name, node_name};

/// A process: the agents, then the controllers.
pub(super) type Process = usize;

/// How far a request to the store is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// It is under way to the store.
    Sent(Request),
    /// The answer is under way.
    Answered(Box<Answer>),
}

/// What a process has to do with the store and with time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) request: Option<Asked>,
    /// Time went on over it.
    pub(super) late: bool,
    pub(super) due: Option<Moment>,
    /// How often it has written to the store at this moment.
    pub(super) writes: (Moment, u8),
    /// What each other process has told here last.
    pub(super) told: BTreeMap<Process, Report>,
}

/// A command under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) command: Command,
    /// Whether it worked, once it is done.
    pub(super) worked: Option<bool>,
    pub(super) late: bool,
}

/// A reply of a standby, under way to where it streams from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reply {
    pub(super) to: usize,
    pub(super) life: u64,
    pub(super) lsn: Lsn,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) agent: Option<Agent>,
    pub(super) run: u64,
    pub(super) kept: Kept,
    pub(super) postgres: Postgres,
    pub(super) armed: Moment,
    pub(super) order: Option<Order>,
    pub(super) line: Line,
    /// PostgreSQL has ended, and the agent does not know yet.
    pub(super) gone: bool,
    /// What the agent was told of PostgreSQL last.
    pub(super) shown: Option<(Wal, BTreeMap<NodeName, Lsn>)>,
    pub(super) reply: Option<Reply>,
}

/// A controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Controller {
    pub(super) coordinator: Coordinator,
    pub(super) line: Line,
}

/// A message under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Letter {
    pub(super) from: Process,
    pub(super) to: Process,
    pub(super) late: bool,
    pub(super) message: Message,
}

/// The whole of a case at one moment. What few steps change is shared between states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) now: Moment,
    pub(super) nodes: Vec<Shared<Node>>,
    pub(super) controllers: Vec<Shared<Controller>>,
    pub(super) store: Shared<Store>,
    /// In an order of no meaning, so that two states with the same letters are one.
    pub(super) letters: Vec<Shared<Letter>>,
    /// Requests that nobody waits for any more, and that may still come to the store.
    pub(super) strays: Vec<Shared<Request>>,
    /// Which of the faults of the case have begun, and are mended: one bit each.
    pub(super) begun: u8,
    pub(super) mended: u8,
    pub(super) late: u8,
    pub(super) lost: u8,
    pub(super) stale: u8,
    pub(super) writes: u32,
    pub(super) oracle: Shared<Oracle>,
    pub(super) violation: Option<Violation>,
}

impl State {
    /// The beginning of a case.
    pub(super) fn begin(case: &Case) -> Self {
        let record = record(case);
        let nodes = (0..case.nodes).map(|node| Shared::new(Node::new(node, case, &record)));
        let controllers =
            (0..case.controllers).map(|at| Shared::new(Controller::new(at, case, Moment::new(0))));
        let mut state = Self {
            now: Moment::new(0),
            nodes: nodes.collect(),
            controllers: controllers.collect(),
            store: Shared::new(Store::with(record)),
            letters: Vec::new(),
            strays: Vec::new(),
            begun: 0,
            mended: 0,
            late: case.late,
            lost: case.lost,
            stale: case.stale,
            writes: case.writes,
            oracle: Shared::new(Oracle::default()),
            violation: None,
        };
        for node in 0..case.nodes {
            state.start_agent(case, node);
        }
        for process in case.nodes..case.processes() {
            state.controller_hears(case, process, coordinator::Event::Tick);
        }
        if case.begins == Begins::AtRest {
            state.rest(case);
        }
        state
    }

    /// The state that the record had at the very beginning.
    pub(super) fn first_reading(case: &Case) -> Reading {
        Store::with(record(case)).reading()
    }

    pub(super) fn line(&self, process: Process) -> &Line {
        match self.nodes.get(process) {
            Some(node) => &node.line,
            None => &self.controllers[process - self.nodes.len()].line,
        }
    }

    pub(super) fn line_mut(&mut self, process: Process) -> &mut Line {
        let nodes = self.nodes.len();
        match self.nodes.get_mut(process) {
            Some(node) => &mut node.change().line,
            None => &mut self.controllers[process - nodes].change().line,
        }
    }

    pub(super) fn is_controller(&self, process: Process) -> bool {
        process >= self.nodes.len()
    }

    /// Whether a fault lasts.
    pub(super) fn lasts(&self, case: &Case, fault: Fault) -> bool {
        let bit = |at: usize| 1 << at;
        case.faults.iter().enumerate().any(|(at, of)| {
            of.fault == fault && self.begun & bit(at) != 0 && self.mended & bit(at) == 0
        })
    }

    /// Whether a process is there and not standing still.
    pub(super) fn runs(&self, case: &Case, process: Process) -> bool {
        self.nodes
            .get(process)
            .is_none_or(|node| node.agent.is_some() && !self.lasts(case, Fault::Paused(process)))
    }

    pub(super) fn reaches(&self, case: &Case, a: Process, b: Process) -> bool {
        !self.lasts(case, Fault::Alone(a)) && !self.lasts(case, Fault::Alone(b))
    }

    pub(super) fn reaches_store(&self, case: &Case, process: Process) -> bool {
        ![Fault::Store, Fault::StoreOf(process), Fault::Alone(process)]
            .into_iter()
            .any(|fault| self.lasts(case, fault))
    }

    pub(super) fn process_of(&self, name: &NodeName) -> Process {
        let nodes = self.nodes.len();
        let node = (0..nodes).find(|node| node_name(*node) == *name);
        let controller = || (0..self.controllers.len()).find(|at| controller_name(*at) == *name);
        node.or_else(|| Some(nodes + controller()?)).expect("one of the processes")
    }

    pub(super) fn name_of(&self, process: Process) -> NodeName {
        match process.checked_sub(self.nodes.len()) {
            Some(controller) => controller_name(controller),
            None => node_name(process),
        }
    }

    pub(super) fn postgres(&mut self, node: usize) -> &mut Postgres {
        &mut self.nodes[node].change().postgres
    }

    pub(super) fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    /// Who streams from a node at the moment.
    pub(super) fn streams_from(&self, case: &Case, node: usize) -> Vec<usize> {
        let streams = |other: &usize| {
            let pg = &self.nodes[*other].postgres;
            pg.state == Runs::Standby
                && pg.upstream == Some(node)
                && self.reaches(case, *other, node)
                && pg.log.begins(&self.nodes[node].postgres.log)
        };
        (0..self.nodes.len()).filter(streams).collect()
    }

    /// Whether a commit that is written on this node now would be acknowledged.
    pub(super) fn can_acknowledge(&self, case: &Case, node: usize) -> bool {
        let pg = &self.nodes[node].postgres;
        let admits = pg.state == (Runs::Primary { admits: true });
        if !admits || !pg.clone().passes(self.now) {
            return false;
        }
        let streams = self.streams_from(case, node);
        pg.voters.acknowledged_by(|name| streams.contains(&self.process_of(name)))
    }

    /// Whether what a primary waits for stands in the record, for as long as its term is the last one (S3),
    /// and is no less than `strict` says.
    pub(super) fn waits_for_enough(&self, node: usize) -> bool {
        let (pg, record) = (&self.nodes[node].postgres, self.store.record());
        if !matches!(pg.state, Runs::Primary { .. }) || pg.epoch != record.epoch {
            return true;
        }
        let strict = match record.mode {
            Mode::Strict { quorum } => quorum,
            Mode::Async { .. } | Mode::Sync { .. } => 0,
        };
        pg.used().all(|set| record.voters.sets.contains(set) && set.quorum >= strict)
    }
}

impl Controller {
    /// One that knows nothing.
    pub(super) fn new(at: usize, case: &Case, now: Moment) -> Self {
        let others = (0..case.controllers).filter(|other| *other != at);
        let config = coordinator::Config {
            name: controller_name(at),
            controllers: others.map(controller_name).collect(),
            devices: [].into(),
            rules: case.rules,
        };
        Self { coordinator: Coordinator::new(config, now), line: Line::default() }
    }
}

impl Node {
    fn new(node: usize, case: &Case, record: &Record) -> Self {
        let at_rest = case.begins == Begins::AtRest;
        let streams = at_rest && (1..=case.voters).contains(&node);
        let mut postgres = Postgres::standby(streams.then_some(0));
        if node == 0 && at_rest {
            let lease = case_lease();
            postgres.start(Runs::Primary { admits: true }, Some(lease));
            postgres.epoch = Epoch::new(1);
            postgres.voters = record.voters.wanted().clone();
        }
        let frozen = (!at_rest).then_some(record.freezes);
        let kept = Kept { frozen, ..Kept::default() };
        Self {
            agent: None,
            run: 0,
            kept,
            postgres,
            armed: Moment::new(0),
            order: None,
            line: Line::default(),
            gone: false,
            shown: None,
            reply: None,
        }
    }

    /// An agent that starts on what it finds.
    pub(super) fn agent(&self, case: &Case, node: usize, now: Moment) -> Agent {
        let pg = &self.postgres;
        let found = match pg.state {
            Runs::Down => Found::Nothing,
            Runs::Standby => {
                let upstream = pg.upstream.map(node_name);
                Found::Standby { open: true, upstream, wal: Some(pg.log.wal()) }
            }
            Runs::Primary { admits } => Found::Primary {
                admits,
                open: pg.deadline().filter(|_| pg.clone().passes(now)),
                wal: pg.log.wal(),
            },
        };
        let config = Config {
            name: node_name(node),
            run: self.run,
            controllers: (0..case.controllers).map(controller_name).collect(),
            restarts: case.restarts,
            hand_over: case.hand_over,
            rules: case.rules,
        };
        Agent::new(config, self.kept.clone(), found, now)
    }
}

/// Until when the first primary may write before it has renewed.
fn case_lease() -> Moment {
    Moment::from(Case::pace().lease.drop_after())
}

fn record(case: &Case) -> Record {
    let start = Position { timeline: Timeline::new(1), lsn: Lsn::new(0) };
    let wal = Wal { end: start, left: Vec::new() };
    let member =
        |node| (node_name(node), Member { confirmed: true, nofailover: false, priority: 0 });
    let others = (1..case.nodes).map(member).collect();
    let founded = Record::founded(&node_name(0), &wal, &others, case.mode, Case::pace());
    // The founder has confirmed them.
    let mut record = founded
        .and_then(|record| record.renew(&node_name(0), 0, start.lsn))
        .expect("a case begins");
    let voters = (1..=case.voters).map(node_name).collect();
    record.voters.sets = vec![VoterSet::of(voters, case.mode.quorum())];
    record.doubts =
        case.by_lease_only.then(|| Doubt::Lowered("somebody".to_owned())).into_iter().collect();
    match case.begins {
        Begins::AtRest => record,
        Begins::Taken => taken(&record, &wal, case),
    }
}

/// The first node gave the lease back and was nominated again. It has taken the next epoch.
fn taken(record: &Record, wal: &Wal, case: &Case) -> Record {
    let first = node_name(0);
    let frozen = (0..case.nodes).map(|node| (node_name(node), wal.clone())).collect();
    let nominate = |released: Record| {
        released.nominate(first.clone(), controller_name(0), Proof::Released, &frozen, case.rules)
    };
    let nominated = record.release(&first).and_then(nominate);
    let taken = nominated.and_then(|nominated| nominated.take(&first, 0, wal, case.rules));
    taken.expect("it holds the lease, and its log is that of the others")
}
