//! The fencing coordinator: what a controller does for a failover. It sees, freezes, proves and nominates;
//! the nominee does the rest.
//!
//! ```text
//!                 suspicion: freeze                   proof and candidate: nominate
//!   watching ------------------------> frozen --------------------------------------> nominated
//!      ^                                 |  ^                                             |
//!      |  it was wrong: thaw             |  |  not taken in time: withdraw                |
//!      +---------------------------------+  +---------------------------------------------+
//!      |                                                                                  |
//!      +----------------------------------------------------------------------------------+
//!                                          taken: a new epoch
//! ```
//!
//! The stage is nothing but what the record says, so that any controller goes on where another one stopped,
//! and two who act at once are held apart by the store.

mod orders;
mod resolve;
mod suspicion;
pub mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use orders::{Accepted, Declined, Unfit};

use super::desk::{Answer, Desk, Request, Written};
use super::election::{Election, NoCandidate, elect};
use super::hearing::Hearing;
use super::message::{Message, Report};
use super::record::{Lease, Ordered, Progress, Record};
use super::rules::Rules;
use crate::{Epoch, Moment, NodeName};
use orders::Pending;

/// What is known before the record was read.
const FIRST_READ: Duration = Duration::from_millis(100);

/// A controller's part.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its own name.
    pub name: NodeName,
    /// The other controllers.
    pub controllers: BTreeSet<NodeName>,
    /// The nodes that a fence device can turn off.
    pub devices: BTreeSet<NodeName>,
    /// The rules that hold.
    pub rules: Rules,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The store has answered, or says that the record has changed.
    Store(Answer),
    /// A message came.
    Heard {
        /// From whom.
        from: NodeName,
        /// What.
        message: Message,
    },
    /// [`Effect::TurnOff`] has ended.
    TurnedOff {
        /// Who.
        node: NodeName,
        /// As the effect had it.
        renewal: (Epoch, u64),
        /// The device has turned the node off and its status confirms it. An error or a timeout is no proof.
        off: bool,
    },
    /// An operator wants another primary.
    Ordered {
        /// A number that no other order to this process has.
        number: u64,
        /// What.
        ordered: Ordered,
    },
    /// [`Coordinator::poll_timeout`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Ask the store. It is answered once, in any case.
    Store(Request),
    /// Tell somebody.
    Send {
        /// Whom.
        to: NodeName,
        /// What.
        message: Message,
    },
    /// Turn a node off, and find out whether it is. [`Event::TurnedOff`] follows in any case.
    TurnOff {
        /// Who.
        node: NodeName,
        /// The last renewal by then. If there is another one, the node may have been turned on again since.
        renewal: (Epoch, u64),
    },
    /// An order is in the record, or is not carried out. It is answered once.
    Answered {
        /// As the event had it.
        number: u64,
        /// Which.
        result: Result<Accepted, Declined>,
    },
}

/// Where a failover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The record is not known.
    Unknown,
    /// There is a primary.
    Watching,
    /// It is suspected.
    Frozen,
    /// A candidate may take the next epoch.
    Nominated,
}

/// When a renewal was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Seen {
    epoch: Epoch,
    renewal: u64,
    at: Moment,
}

/// Since when the stage is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Since {
    epoch: Epoch,
    freeze: u64,
    stage: Stage,
    at: Moment,
    /// The number of the last renewal by then.
    renewal: u64,
}

/// A question to a fence device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked {
    /// After which renewal.
    renewal: (Epoch, u64),
    /// When it was answered, if it was.
    answered: Option<(Moment, bool)>,
}

/// The fencing coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    name: NodeName,
    controllers: BTreeSet<NodeName>,
    devices: BTreeSet<NodeName>,
    rules: Rules,
    desk: Desk,
    hearing: Hearing,
    seen: Option<Seen>,
    since: Option<Since>,
    /// Since when nobody hears the primary, though it renews.
    cut_off: Option<Moment>,
    /// The node that was turned off, and its last renewal before.
    off: Option<(NodeName, (Epoch, u64))>,
    /// The last question to a fence device.
    asked: Option<Asked>,
    /// When a candidate was told last from whom it shall catch up.
    caught_up: Option<Moment>,
    told: Option<Moment>,
    /// Orders of operators that are not answered yet.
    pending: VecDeque<Pending>,
    effects: VecDeque<Effect>,
}

impl Coordinator {
    /// A controller that begins at `now`. What was seen before is not counted.
    #[must_use]
    pub fn new(config: Config, now: Moment) -> Self {
        Self {
            name: config.name,
            controllers: config.controllers,
            devices: config.devices,
            rules: config.rules,
            desk: Desk::new(None, Progress::default(), config.rules),
            hearing: Hearing::from(now),
            seen: None,
            since: None,
            cut_off: None,
            off: None,
            asked: None,
            caught_up: None,
            told: None,
            pending: VecDeque::new(),
            effects: VecDeque::new(),
        }
    }

    /// Takes in what happened at `now`, by the clock that goes on while the machine sleeps
    /// (CLOCK_BOOTTIME).
    pub fn handle(&mut self, now: Moment, event: Event) {
        match event {
            Event::Store(answer) => {
                if matches!(
                    answer,
                    Answer::Read(None) | Answer::Written(Written::Failed | Written::Unknown)
                ) {
                    self.lost();
                }
                self.desk.take(now, answer);
            }
            Event::Heard { from, message } => match message {
                Message::Report(report) => {
                    if let Some(seen) = report.seen {
                        self.desk.outdated_by(seen);
                    }
                    self.hearing.note(now, from, report);
                }
                Message::Ask { .. }
                | Message::Grant { .. }
                | Message::CatchUp { .. }
                | Message::Clear => {}
            },
            Event::TurnedOff { node, renewal, off } => {
                self.asked = Some(Asked { renewal, answered: Some((now, off)) });
                if off {
                    self.off = Some((node, renewal));
                }
            }
            Event::Ordered { number, ordered } => {
                self.pending.push_back(Pending { number, ordered, since: now });
            }
            Event::Tick => {}
        }
        self.observe(now);
        self.advance(now);
    }

    /// What is to be done next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        let Some(record) = self.desk.record() else {
            let due = self.desk.due(FIRST_READ).filter(|due| *due > now);
            return Some(due.unwrap_or(now + FIRST_READ));
        };
        let pace = &record.pace;
        let told = self.told.unwrap_or(now) + pace.heartbeat;
        let read = self.desk.due(pace.lease.renew_every()).unwrap_or(now + pace.heartbeat);
        let silent = self.hearing.due(now, [record.lease.node()].into_iter(), pace);
        let seen = self
            .seen
            .iter()
            .flat_map(|seen| [seen.at + pace.overdue(), seen.at + pace.lease.proven_after()]);
        let stage = self.since.map(|since| since.at + pace.lease.duration());
        let device = self.asked.and_then(|asked| asked.answered);
        let device = device.map(|(at, _)| at + pace.lease.duration());
        let caught_up = self.caught_up.map(|at| at + pace.heartbeat);
        let pending = self.pending.front().map(|order| order.since + pace.lease.duration());
        [Some(told), Some(read), silent, stage, device, caught_up, pending]
            .into_iter()
            .flatten()
            .chain(seen)
            .filter(|due| *due > now)
            .min()
    }

    /// Where a failover is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.desk.record() {
            None => Stage::Unknown,
            Some(Record { nomination: Some(_), .. }) => Stage::Nominated,
            Some(Record { freeze: Some(_), .. }) => Stage::Frozen,
            Some(_) => Stage::Watching,
        }
    }

    /// The record, as it was read last.
    #[must_use]
    pub const fn record(&self) -> Option<&Record> {
        self.desk.record()
    }

    /// Whether the primary's lease was renewed not longer ago than it lasts, as far as was seen here.
    #[must_use]
    pub fn sees_renewals(&self, now: Moment) -> bool {
        let within = |record: &Record, seen: Seen| {
            seen.epoch == record.epoch && now.since(seen.at) < record.pace.lease.duration()
        };
        self.desk.record().zip(self.seen).is_some_and(|(record, seen)| within(record, seen))
    }

    /// Why nobody is nominated, where the primary is suspected.
    #[must_use]
    pub fn why_not(&self) -> Option<NoCandidate> {
        let record = self.desk.record().filter(|record| record.freeze.is_some())?;
        match elect(record, &self.frozen(record), self.rules) {
            Election::Nobody(why) => Some(why),
            Election::Candidate(_) | Election::CatchUp { .. } => None,
        }
    }

    /// Whether the store answered when it was asked last; `None` before that.
    #[must_use]
    pub fn store_answers(&self) -> Option<bool> {
        self.desk.reachable()
    }

    /// The primary, where it is heard and goes on without the store by what its members granted (S8).
    #[must_use]
    pub fn who_goes_on_alone(&self, now: Moment) -> Option<&NodeName> {
        self.hearing.goes_on_alone(now, self.desk.record()?)
    }

    /// Why each node does not become the primary now; `None`: it may.
    #[must_use]
    pub fn candidates(&self, now: Moment) -> BTreeMap<NodeName, Option<Unfit>> {
        let Some(record) = self.desk.record() else { return BTreeMap::new() };
        let look = |node: &NodeName| (node.clone(), self.unfit(now, record, node));
        record.members.keys().map(look).collect()
    }

    /// The store was out of reach: renewals may have been missed, and the primary may have gone on by what
    /// its members granted.
    fn lost(&mut self) {
        self.seen = None;
        self.cut_off = None;
    }

    fn observe(&mut self, now: Moment) {
        let stage = self.stage();
        let Some(record) = self.desk.record() else { return };
        let renewal = last_renewal(record).map_or(0, |(_, renewal)| renewal);
        let epoch = record.epoch;
        if self.seen.is_none_or(|seen| (seen.epoch, seen.renewal) != (epoch, renewal)) {
            // What was seen before is no measure any more, whether or not this one is counted.
            let counts = self.desk.reachable() == Some(true);
            self.seen = counts.then_some(Seen { epoch, renewal, at: now });
        }
        let freeze = record.freezes;
        let same =
            |since: Since| (since.epoch, since.freeze, since.stage) == (epoch, freeze, stage);
        if !self.since.is_some_and(same) {
            self.since = Some(Since { epoch, freeze, stage, at: now, renewal });
        }
        self.cut_off = match (self.nobody_hears(now, record), self.cut_off) {
            (true, since) => since.or(Some(now)),
            (false, _) => None,
        };
    }

    fn advance(&mut self, now: Moment) {
        self.tell(now);
        let every = self.desk.record().map_or(FIRST_READ, |record| record.pace.lease.renew_every());
        if let Some(request) = self.desk.poll(now, every) {
            self.effects.push_back(Effect::Store(request));
        }
        let ordered = self.order(now);
        if !self.desk.is_ready() {
            return;
        }
        let Some(record) = self.desk.record().cloned() else { return };
        let next = ordered.or_else(|| match self.stage() {
            Stage::Unknown => None,
            Stage::Watching => self.suspect(now, &record),
            Stage::Frozen => self.resolve(now, &record),
            Stage::Nominated => self.withdraw(now, &record),
        });
        if let Some(next) = next
            && let Some(request) = self.desk.put(now, next)
        {
            self.effects.push_back(Effect::Store(request));
        }
    }

    /// Tells everybody that this controller lives, and whom it does not hear.
    fn tell(&mut self, now: Moment) {
        let Some(record) = self.desk.record() else { return };
        let pace = record.pace;
        if self.told.is_some_and(|told| now.since(told) < pace.heartbeat) {
            return;
        }
        self.told = Some(now);
        let report = Report {
            epoch: record.epoch,
            seen: self.desk.seen().map(|mark| mark.revision),
            silent: self.hearing.silent(now, record.members.keys(), &pace),
            ..Report::default()
        };
        for to in record.members.keys().chain(&self.controllers) {
            let message = Message::Report(report.clone());
            self.effects.push_back(Effect::Send { to: to.clone(), message });
        }
    }

    fn suspect(&self, now: Moment, record: &Record) -> Option<Record> {
        let reason = self.suspicion(now, record)?;
        record.freeze(self.name.clone(), reason).ok()
    }

    /// The nominee had time enough.
    fn withdraw(&self, now: Moment, record: &Record) -> Option<Record> {
        let late =
            self.since.is_some_and(|since| now.since(since.at) >= record.pace.lease.duration());
        if late { record.withdraw().ok() } else { None }
    }
}

/// Which renewal of the lease is the last one.
fn last_renewal(record: &Record) -> Option<(Epoch, u64)> {
    match &record.lease {
        Lease::Held { renewal, .. } => Some((record.epoch, *renewal)),
        Lease::Released { .. } => None,
    }
}
