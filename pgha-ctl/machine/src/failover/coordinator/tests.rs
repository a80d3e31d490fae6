mod orders;
mod proofs;
mod stages;
mod suspicions;

use super::*;
use crate::failover::fixture::{FLOOR, RUN, SYNC, changes, cluster, frozen, name, stopped, wal};
use crate::failover::message::{FrozenAt, Reading};
use crate::failover::record::{Doubt, Proof, Suspicion};
use crate::{Lsn, Mark, Wal};

/// When the controller begins. Moments are told in milliseconds since then.
const START: Moment = Moment::new(100_000);

/// The controller `k1`, and what it has asked for.
struct Play {
    coordinator: Coordinator,
    now: Moment,
    /// The record that it was shown last.
    record: Option<Record>,
    revision: u64,
}

impl Play {
    /// It has read the record.
    fn watching(record: &Record) -> Self {
        Self::with_devices(record, &[])
    }

    fn with_devices(record: &Record, devices: &[&str]) -> Self {
        let mut play = Self::begin(devices);
        assert_eq!(play.does(Event::Tick), "read");
        assert_eq!(play.reads(record), "");
        play
    }

    /// It has read nothing.
    fn begin(devices: &[&str]) -> Self {
        let config = Config {
            name: name("k1"),
            controllers: [name("k2")].into(),
            devices: devices.iter().map(|node| name(node)).collect(),
            rules: Rules::default(),
        };
        let coordinator = Coordinator::new(config, START);
        Self { coordinator, now: START, record: None, revision: 0 }
    }

    fn at(&mut self, milliseconds: u64) -> &mut Self {
        self.now = START + Duration::from_millis(milliseconds);
        self
    }

    fn does(&mut self, event: Event) -> String {
        self.coordinator.handle(self.now, event);
        self.effects()
    }

    fn reads(&mut self, record: &Record) -> String {
        let reading = self.reading(record);
        self.does(Event::Store(Answer::Read(Some(reading))))
    }

    fn hears_of(&mut self, record: &Record) -> String {
        let reading = self.reading(record);
        self.does(Event::Store(Answer::Changed(reading)))
    }

    /// A state that is a newer one, where it is another.
    fn reading(&mut self, record: &Record) -> Reading {
        if self.record.as_ref() != Some(record) {
            self.revision += 1;
            self.record = Some(record.clone());
        }
        let mark = Mark { incarnation: 1, revision: self.revision };
        Reading { mark, record: Some(Box::new(record.clone())) }
    }

    fn hears(&mut self, from: &str, report: Report) -> String {
        self.does(Event::Heard { from: name(from), message: Message::Report(report) })
    }

    /// It hears that this node has stopped, with that log.
    fn hears_frozen(&mut self, from: &str, wal: &Wal) -> String {
        let report = self.stopped(wal);
        self.hears(from, report)
    }

    /// What a node says that has stopped, with that log.
    fn stopped(&self, wal: &Wal) -> Report {
        let freeze = self.record.as_ref().unwrap().freezes;
        let frozen = Some(FrozenAt { freeze, wal: Some(wal.clone()) });
        Report { frozen, ..Report::default() }
    }

    /// Time goes by, with a record that does not change, a store that answers and whoever is heard.
    fn waits(&mut self, until: u64, hears: &[(&str, &Report)]) -> String {
        let mut all = Vec::new();
        let until = START + Duration::from_millis(until);
        while self.now < until {
            self.now = (self.now + Duration::from_millis(50)).min(until);
            for (from, report) in hears {
                all.push(self.hears(from, (*report).clone()));
            }
            all.push(self.does(Event::Tick));
            if all.iter().rev().take(hears.len() + 1).any(|told| told.contains("read")) {
                let record = self.record.clone().unwrap();
                all.push(self.reads(&record));
            }
        }
        let told = all.iter().flat_map(|told| told.split("; "));
        told.filter(|one| !one.is_empty() && *one != "read").collect::<Vec<_>>().join("; ")
    }

    /// Everything that it asks for but to be heard, in order.
    fn effects(&mut self) -> String {
        let mut told = Vec::new();
        while let Some(effect) = self.coordinator.poll_effect() {
            match effect {
                Effect::Store(Request::Read) => told.push("read".to_owned()),
                Effect::Store(Request::Put { expected, record }) => {
                    assert_eq!(expected.revision, self.revision);
                    let before = self.record.as_ref().unwrap();
                    told.push(format!("put {}", changes(before, &record)));
                }
                Effect::Send { message: Message::Report(_), .. } => {}
                Effect::Send { to, message: Message::CatchUp { freeze, from, .. } } => {
                    told.push(format!("{to} catches up from {from} in freeze {freeze}"));
                }
                Effect::Send { to, message } => panic!("{message:?} to {to}"),
                Effect::TurnOff { node, renewal } => {
                    told.push(format!("turn off {node} after {}.{}", renewal.0, renewal.1));
                }
                Effect::Answered { number, result } => told.push(match result {
                    Ok(accepted) => format!("order {number}: freeze {}", accepted.freeze),
                    Err(declined) => format!("order {number}: {declined}"),
                }),
            }
        }
        told.join("; ")
    }
}

/// A word of somebody who does not hear these.
fn deaf_to(nodes: &[&str]) -> Report {
    let silent = nodes.iter().map(|node| name(node)).collect();
    Report { epoch: Epoch::new(1), silent, ..Report::default() }
}

fn renewed(record: &Record) -> Record {
    record.renew(&name("a"), RUN, Lsn::new(FLOOR)).unwrap()
}
