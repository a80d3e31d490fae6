mod claim;
mod crash;
mod failsafe;
mod lease;
mod stranded;
mod table;
mod voting;

use super::*;
use crate::failover::fixture::{
    SYNC, at, changes, cluster, frozen, name, pace, place, stopped, through, voters, wal,
};
use crate::failover::message::Reading;
use crate::failover::record::{Progress, Proof};
use crate::failover::voters::VoterSet;
use crate::failover::{Answer, Request, Written};
use crate::{Epoch, Mark};

/// When the agent begins. Moments are told in milliseconds since then.
const START: Moment = Moment::new(100_000);
/// The process of `b`.
const RUN: u64 = 20;
/// When a promise of before the start binds no more.
const NOW: u64 = 2000;

/// What is on the disk of a node that is no part of a freeze.
fn kept(epoch: u64, frozen: Option<u64>) -> Kept {
    let progress = Progress { epoch: Epoch::new(epoch), renewal: 0, freezes: u64::from(epoch > 1) };
    Kept { seen: None, progress, frozen, rewinding: false, lease: Some(pace().lease) }
}

fn standby(upstream: Option<&str>) -> Found {
    Found::Standby { open: true, upstream: upstream.map(name), wal: Some(wal(120)) }
}

/// On timeline 2, which began at 120, with the gate open until then.
fn primary(open: u64, admits: bool) -> Found {
    let open = Some(START + Duration::from_millis(open));
    Found::Primary { open, admits, wal: through(&[(1, 120), (2, 150)]) }
}

/// `b` has taken epoch 2.
fn taken() -> Record {
    let rules = Rules::default();
    let nominated = nominee();
    nominated.take(&name("b"), RUN - 1, &wal(120), rules).unwrap()
}

/// And was promoted.
fn holder() -> Record {
    taken().promoted(&name("b"), at(1, 120)).unwrap()
}

fn suspended() -> Record {
    frozen(&cluster(SYNC))
}

fn nominee() -> Record {
    let rules = Rules::default();
    suspended()
        .nominate(name("b"), name("k1"), Proof::Quorum, &stopped(&[("b", 120), ("c", 110)]), rules)
        .unwrap()
}

/// The agent of `b`, and what it has asked for.
struct Play {
    agent: Agent,
    now: Moment,
    /// The record that it was shown last.
    record: Option<Record>,
    revision: u64,
    /// The last that it has put.
    put: Option<Record>,
    number: u64,
}

impl Play {
    fn begin(kept: Kept, found: Found) -> Self {
        Self::with_restarts(kept, found, 1)
    }

    fn with_restarts(kept: Kept, found: Found, restarts: u32) -> Self {
        let config = Config {
            name: name("b"),
            controllers: [name("k1"), name("k2")].into(),
            run: RUN,
            restarts,
            hand_over: false,
            rules: Rules::default(),
        };
        let agent = Agent::new(config, kept, found, START);
        Self { agent, now: START, record: None, revision: 0, put: None, number: 0 }
    }

    fn at(&mut self, milliseconds: u64) -> &mut Self {
        self.now = START + Duration::from_millis(milliseconds);
        self
    }

    fn does(&mut self, event: Event) -> String {
        self.agent.handle(self.now, event);
        self.effects()
    }

    /// Reads a record that is another one than before.
    fn reads(&mut self, record: &Record) -> String {
        let reading = self.reading(record);
        self.does(Event::Store(Answer::Read(Some(reading))))
    }

    fn hears_of(&mut self, record: &Record) -> String {
        let reading = self.reading(record);
        self.does(Event::Store(Answer::Changed(reading)))
    }

    fn reading(&mut self, record: &Record) -> Reading {
        self.revision += 1;
        self.record = Some(record.clone());
        let mark = Mark { incarnation: 1, revision: self.revision };
        Reading { mark, record: Some(Box::new(record.clone())) }
    }

    /// What it put last is there.
    fn done(&mut self) -> String {
        self.revision += 1;
        self.record = self.put.clone();
        self.does(Event::Store(Answer::Written(Written::Done(self.revision))))
    }

    fn ends(&mut self, outcome: Outcome) -> String {
        self.does(Event::Ended { number: self.number, outcome })
    }

    fn hears(&mut self, from: &str, message: Message) -> String {
        self.does(Event::Heard { from: name(from), message })
    }

    /// Everything that it asks for, in order.
    fn effects(&mut self) -> String {
        let mut told = Vec::new();
        let mut told_to = Vec::new();
        while let Some(effect) = self.agent.poll_effect() {
            if let Effect::Send { to, message: Message::Report(report) } = effect {
                if told_to.is_empty() {
                    told.push(said(&report));
                }
                told_to.push(to);
            } else {
                told.push(self.effect(effect));
            }
        }
        let members =
            self.agent.record().into_iter().flat_map(|record| record.members.keys()).cloned();
        let everybody: Vec<_> =
            members.filter(|node| *node != name("b")).chain([name("k1"), name("k2")]).collect();
        assert!(told_to.is_empty() || told_to == everybody, "{told_to:?}");
        told.join("; ")
    }

    fn effect(&mut self, effect: Effect) -> String {
        match effect {
            Effect::Store(Request::Read) => "read".to_owned(),
            Effect::Store(Request::Put { record, .. }) => {
                let before = self.record.as_ref().unwrap();
                let changes = changes(before, &record);
                self.put = Some(*record);
                format!("put {changes}")
            }
            Effect::Send { to, message: Message::Ask { epoch, run, number } } => {
                format!("ask {to} in {epoch}, run {run}, {number}")
            }
            Effect::Send { to, message: Message::Grant { epoch, run, number } } => {
                format!("grant {to} in {epoch}, run {run}, {number}")
            }
            Effect::Send { to, message } => panic!("{message:?} to {to}"),
            Effect::Do { number, command } => {
                assert_eq!(number, self.number + 1);
                self.number = number;
                ordered(command)
            }
            Effect::Arm(until) => format!("arm {}", until.since(START).as_millis()),
            Effect::Copy { number, from } => format!("copy {number} of {from}"),
            Effect::Claim(epoch) => format!("claim in {epoch}"),
        }
    }
}

fn said(report: &Report) -> String {
    let fault = if report.fault { " fault" } else { "" };
    let frozen = report.frozen.as_ref().map_or(String::new(), |at| {
        let wal = at.wal.as_ref().map_or("?".to_owned(), |wal| place(wal.end));
        format!(" frozen {} at {wal}", at.freeze)
    });
    let failsafe = if report.failsafe { " in failsafe" } else { "" };
    format!("tell{fault}{failsafe}{frozen}")
}

fn ordered(command: Command) -> String {
    let of = |set: &VoterSet| voters(set);
    match command {
        Command::Keep(Kept { progress, frozen, rewinding, lease, .. }) => {
            assert_eq!(lease, Some(pace().lease));
            let rewinding = if rewinding { ", rewinding" } else { "" };
            let frozen =
                frozen.map_or("nothing frozen".to_owned(), |number| format!("freeze {number}"));
            format!("keep epoch {}, {frozen}{rewinding}", progress.epoch)
        }
        Command::Start => "start".to_owned(),
        Command::Restart { voters } => format!("restart with {}", of(&voters)),
        Command::StopStreaming => "stop streaming".to_owned(),
        Command::CatchUp { from, to } => format!("catch up from {from} to {}", place(to)),
        Command::Follow { of, epoch } => format!("follow {of} in {epoch}"),
        Command::Exchange { from } => format!("exchange for the copy of {from}"),
        Command::Rewind { from } => format!("rewind from {from}"),
        Command::Promote { timeline, voters } => {
            format!("promote to {timeline} with {}", of(&voters))
        }
        Command::UseVoters(voters) => format!("use {}", of(&voters)),
        Command::Admit => "admit".to_owned(),
        Command::Kill => "kill".to_owned(),
    }
}
