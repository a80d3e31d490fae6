//! The whole of a case at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgha_machine::failover::Request;
use pgha_machine::failover::agent::{Agent, Command, Config, Found, Kept};
use pgha_machine::failover::coordinator::{self, Coordinator};
use pgha_machine::failover::message::{Message, Report};
use pgha_machine::failover::record::{Member, Record};
use pgha_machine::failover::voters::VoterSet;
use pgha_machine::{Epoch, Lsn, Moment, NodeName, Position, Timeline, Wal};

use super::case::{Case, Fault};
use crate::oracle::{Oracle, Violation};
use crate::postgres::{Postgres, State as Runs};
use crate::store::Store;
use crate::world::{Answer, controller_name, node_name};

/// A process: the agents, then the controller.
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

/// The controller.
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
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) controller: Arc<Controller>,
    pub(super) store: Arc<Store>,
    /// In an order of no meaning, so that two states with the same letters are one.
    pub(super) letters: Vec<Arc<Letter>>,
    /// Requests that nobody waits for any more, and that may still come to the store.
    pub(super) strays: Vec<Arc<Request>>,
    /// Which of the faults of the case have begun, and are mended: one bit each.
    pub(super) begun: u8,
    pub(super) mended: u8,
    pub(super) late: u8,
    pub(super) lost: u8,
    pub(super) writes: u32,
    pub(super) oracle: Arc<Oracle>,
    pub(super) violation: Option<Violation>,
}

impl State {
    /// At rest, with everything done that is to be done at once.
    pub(super) fn begin(case: &Case) -> Self {
        let record = record(case);
        let nodes = (0..case.nodes).map(|node| Arc::new(Node::new(node, case, &record)));
        let config = coordinator::Config {
            name: controller_name(0),
            controllers: [].into(),
            devices: [].into(),
            rules: case.rules,
        };
        let mut state = Self {
            now: Moment::new(0),
            nodes: nodes.collect(),
            controller: Arc::new(Controller {
                coordinator: Coordinator::new(config, Moment::new(0)),
                line: Line::default(),
            }),
            store: Arc::new(Store::with(record)),
            letters: Vec::new(),
            strays: Vec::new(),
            begun: 0,
            mended: 0,
            late: case.late,
            lost: case.lost,
            writes: case.writes,
            oracle: Arc::default(),
            violation: None,
        };
        for node in 0..case.nodes {
            state.start_agent(case, node);
        }
        state.controller_hears(case, coordinator::Event::Tick);
        state.rest(case);
        state
    }

    pub(super) const fn controller_process(case: &Case) -> Process {
        case.nodes
    }

    pub(super) fn line(&self, process: Process) -> &Line {
        self.nodes.get(process).map_or(&self.controller.line, |node| &node.line)
    }

    pub(super) fn line_mut(&mut self, process: Process) -> &mut Line {
        match self.nodes.get_mut(process) {
            Some(node) => &mut Arc::make_mut(node).line,
            None => &mut Arc::make_mut(&mut self.controller).line,
        }
    }

    /// Whether a fault lasts.
    pub(super) fn lasts(&self, case: &Case, fault: Fault) -> bool {
        let bit = |at: usize| 1 << at;
        case.faults
            .iter()
            .enumerate()
            .any(|(at, of)| *of == fault && self.begun & bit(at) != 0 && self.mended & bit(at) == 0)
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
        (0..self.nodes.len()).find(|node| node_name(*node) == *name).unwrap_or(self.nodes.len())
    }

    pub(super) fn postgres(&mut self, node: usize) -> &mut Postgres {
        &mut Arc::make_mut(&mut self.nodes[node]).postgres
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
}

impl Node {
    fn new(node: usize, case: &Case, record: &Record) -> Self {
        let mut postgres = Postgres::standby((1..=case.voters).contains(&node).then_some(0));
        if node == 0 {
            let lease = case_lease();
            postgres.start(Runs::Primary { admits: true }, Some(lease));
            postgres.epoch = Epoch::new(1);
            postgres.voters = record.voters.wanted().clone();
        }
        Self {
            agent: None,
            run: 0,
            kept: Kept::default(),
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
                Found::Standby { upstream: pg.upstream.map(node_name), wal: Some(pg.log.wal()) }
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
            controllers: [controller_name(0)].into(),
            restarts: case.restarts,
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
    let mut record = Record::founded(node_name(0), &wal, case.mode, Case::pace());
    for node in 1..case.nodes {
        let member = Member { confirmed: true, nofailover: false, priority: 0 };
        record.members.insert(node_name(node), member);
    }
    let voters = (1..=case.voters).map(node_name).collect();
    record.voters.sets = vec![VoterSet::of(voters, case.mode.quorum())];
    record.unprovable = case.by_lease_only.then(|| "only the end of the lease counts".to_owned());
    record
}
