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

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::desk::{Desk, Request, Written};
use super::election::{Election, Frozen, NoCandidate, elect, elect_among};
use super::hearing::Hearing;
use super::message::{Message, Reading, Report};
use super::record::{Lease, Proof, Record, Suspicion};
use super::rules::{Rule, Rules};
use crate::{Epoch, Moment, NodeName};

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
    /// [`Request::Read`] was answered; `None`: the store cannot be reached.
    Read(Option<Reading>),
    /// The store says that the record has changed.
    Changed(Reading),
    /// [`Request::Put`] was answered.
    Written(Written),
    /// A message came.
    Heard {
        /// From whom.
        from: NodeName,
        /// What.
        message: Message,
    },
    /// A fence device has turned the node off and its status confirms it.
    Off {
        /// Who.
        node: NodeName,
        /// As [`Effect::TurnOff`] had it.
        renewal: (Epoch, u64),
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
    /// Turn a node off, and find out whether it is.
    TurnOff {
        /// Who.
        node: NodeName,
        /// The last renewal by then. If there is another one, the node may have been turned on again since.
        renewal: (Epoch, u64),
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
    /// The renewal after which a device was asked.
    asked: Option<(Epoch, u64)>,
    told: Option<Moment>,
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
            desk: Desk::new(None, Epoch::default(), config.rules),
            hearing: Hearing::from(now),
            seen: None,
            since: None,
            cut_off: None,
            off: None,
            asked: None,
            told: None,
            effects: VecDeque::new(),
        }
    }

    /// Takes in what happened at `now`, by the clock that goes on while the machine sleeps
    /// (CLOCK_BOOTTIME).
    pub fn handle(&mut self, now: Moment, event: Event) {
        match event {
            Event::Read(reading) => {
                if reading.is_none() {
                    self.lost();
                }
                self.desk.read(now, reading, true);
            }
            Event::Changed(reading) => {
                self.desk.read(now, Some(reading), false);
            }
            Event::Written(written) => {
                if matches!(written, Written::Failed | Written::Unknown) {
                    self.lost();
                }
                self.desk.written(now, written);
            }
            Event::Heard { from, message } => match message {
                Message::Report(report) => {
                    if let Some(seen) = report.seen {
                        self.desk.outdated_by(seen);
                    }
                    self.hearing.note(now, from, report);
                }
                Message::Ask { .. } | Message::Grant { .. } | Message::CatchUp { .. } => {}
            },
            Event::Off { node, renewal } => self.off = Some((node, renewal)),
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
            return Some(self.desk.due(FIRST_READ).unwrap_or(now + FIRST_READ));
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
        [Some(told), Some(read), silent, stage]
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

    /// Why nobody is nominated, where the primary is suspected.
    #[must_use]
    pub fn why_not(&self) -> Option<NoCandidate> {
        let record = self.desk.record().filter(|record| record.freeze.is_some())?;
        match elect(record, &self.frozen(record), self.rules) {
            Election::Nobody(why) => Some(why),
            Election::Candidate(_) | Election::CatchUp { .. } => None,
        }
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
        if !self.desk.is_ready() {
            return;
        }
        let Some(record) = self.desk.record().cloned() else { return };
        let next = match self.stage() {
            Stage::Unknown => None,
            Stage::Watching => self.suspect(now, &record),
            Stage::Frozen => self.resolve(now, &record),
            Stage::Nominated => self.withdraw(now, &record),
        };
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
            fault: false,
            faulty: false,
            frozen: None,
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

    /// Suspicion is no proof. While renewals move on, only the primary's own word freezes, or that no
    /// controller and less than half of the members hear of it for two leases. One observer alone waits for
    /// the lease.
    fn suspicion(&self, now: Moment, record: &Record) -> Option<Suspicion> {
        let holder = record.lease.node();
        let pace = &record.pace;
        let own_word = self.hearing.report(holder);
        if own_word.is_some_and(|report| report.fault && report.epoch == record.epoch) {
            return Some(Suspicion::Reported);
        }
        let seen = self.seen?;
        let without = now.since(seen.at);
        if without >= pace.lease.proven_after() {
            return Some(Suspicion::Expired);
        }
        let observers = self.observers(now, record);
        if without >= pace.overdue() && observers >= 2 {
            return Some(Suspicion::Silent);
        }
        self.cut_off
            .is_some_and(|since| now.since(since) >= pace.lease.patience())
            .then_some(Suspicion::CutOff)
    }

    /// How many processes hear nothing of the primary, as far as this one hears of them.
    fn observers(&self, now: Moment, record: &Record) -> usize {
        let holder = record.lease.node();
        let others = self.hearing.reports().filter(|(node, report)| {
            *node != holder
                && report.silent.contains(holder)
                && !self.hearing.is_silent(now, node, &record.pace)
        });
        others.count() + usize::from(self.hearing.is_silent(now, holder, &record.pace))
    }

    /// Whether no controller and less than half of the members hear of the primary.
    fn nobody_hears(&self, now: Moment, record: &Record) -> bool {
        let holder = record.lease.node();
        let deaf = |node: &NodeName| {
            self.hearing.report(node).is_some_and(|report| report.silent.contains(holder))
                && !self.hearing.is_silent(now, node, &record.pace)
        };
        let members = || record.members.keys().filter(|member| *member != holder);
        self.hearing.is_silent(now, holder, &record.pace)
            && self.controllers.iter().all(deaf)
            && members().filter(|member| deaf(member)).count() * 2 >= members().count()
    }

    /// Looks for a proof and a candidate; undoes the freeze where the primary is well.
    fn resolve(&mut self, now: Moment, record: &Record) -> Option<Record> {
        let frozen = self.frozen(record);
        if let Some(proof) = self.proof(now, record, &frozen) {
            match self.elect(now, record, &frozen) {
                Election::Candidate(node) => {
                    let voters = frozen.keys().filter(|name| **name != node).cloned().collect();
                    let by = self.name.clone();
                    return record.nominate(node, by, proof, voters, self.rules).ok();
                }
                Election::CatchUp { node, from } => {
                    let message = Message::CatchUp { freeze: record.freezes, from };
                    self.effects.push_back(Effect::Send { to: node, message });
                }
                Election::Nobody(_) => {}
            }
        }
        // One that came back after it was turned off is not turned off again for that.
        if self.suspicion(now, record).is_some() {
            self.turn_off(record);
        }
        if self.is_well(now, record) { record.thaw().ok() } else { None }
    }

    /// The first proof that there is (S2).
    fn proof(&self, now: Moment, record: &Record, frozen: &Frozen) -> Option<Proof> {
        if matches!(record.lease, Lease::Released { .. }) {
            return Some(Proof::Released);
        }
        if record.unprovable.is_none() && record.voters.blocked_by(|node| frozen.contains_key(node))
        {
            return Some(Proof::Quorum);
        }
        let is_last = |(node, renewal): &(NodeName, (Epoch, u64))| {
            node == record.lease.node() && Some(*renewal) == last_renewal(record)
        };
        if self.off.as_ref().is_some_and(is_last) {
            return Some(Proof::Power);
        }
        let expired = |seen: Seen| now.since(seen.at) >= record.pace.lease.proven_after();
        if self.seen.is_some_and(expired) || !self.rules.hold(Rule::S2) {
            return Some(Proof::Lease);
        }
        None
    }

    fn turn_off(&mut self, record: &Record) {
        let holder = record.lease.node();
        if let Some(renewal) = last_renewal(record)
            && self.asked != Some(renewal)
            && self.devices.contains(holder)
        {
            self.asked = Some(renewal);
            self.effects.push_back(Effect::TurnOff { node: holder.clone(), renewal });
        }
    }

    /// The primary has renewed since the freeze, is heard, and complains of nothing.
    fn is_well(&self, now: Moment, record: &Record) -> bool {
        let Lease::Held { by, renewal, .. } = &record.lease else { return false };
        let lasted = |since: &Since| now.since(since.at) >= record.pace.silence;
        let renewed = self.since.filter(lasted).is_some_and(|since| *renewal > since.renewal);
        let healthy = self.hearing.report(by).is_some_and(|report| !report.fault);
        renewed && healthy && !self.hearing.is_silent(now, by, &record.pace)
    }

    /// The nominee had time enough.
    fn withdraw(&self, now: Moment, record: &Record) -> Option<Record> {
        let late =
            self.since.is_some_and(|since| now.since(since.at) >= record.pace.lease.duration());
        if late { record.withdraw().ok() } else { None }
    }

    /// Chooses among those who are there. Who stopped and was lost since counts only where they are too few: for
    /// what it had, and never as the candidate.
    fn elect(&self, now: Moment, record: &Record, frozen: &Frozen) -> Election {
        let able = |node: &NodeName| {
            !self.hearing.is_silent(now, node, &record.pace)
                && self.hearing.report(node).is_some_and(|report| !report.faulty)
        };
        let there = frozen.iter().filter(|(node, _)| able(node));
        let there = there.map(|(node, wal)| (node.clone(), wal.clone())).collect();
        match elect(record, &there, self.rules) {
            Election::Candidate(node) => Election::Candidate(node),
            Election::CatchUp { .. } | Election::Nobody(_) => {
                elect_among(record, frozen, able, self.rules)
            }
        }
    }

    /// Who stopped for this freeze, with a known log.
    fn frozen(&self, record: &Record) -> Frozen {
        let stopped = |(node, report): (&NodeName, &Report)| {
            let at = report.frozen.as_ref().filter(|at| at.freeze == record.freezes)?;
            Some((node.clone(), at.wal.clone()?))
        };
        self.hearing.reports().filter_map(stopped).collect()
    }
}

/// Which renewal of the lease is the last one.
fn last_renewal(record: &Record) -> Option<(Epoch, u64)> {
    match &record.lease {
        Lease::Held { renewal, .. } => Some((record.epoch, *renewal)),
        Lease::Released { .. } => None,
    }
}
