//! How it is, as a coordinator sees it: for people, and for nothing that is decided.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Coordinator, Stage, Unfit, last_renewal};
use crate::failover::election::NoCandidate;
use crate::failover::message::Report;
use crate::failover::record::Record;
use crate::{Epoch, Moment, NodeName};

/// What a coordinator sees at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where a failover is.
    pub stage: Stage,
    /// For how long it has been there, as far as this coordinator saw.
    pub in_stage: Option<Duration>,
    /// Whether the store has answered last; `None` before the first answer.
    pub reachable: Option<bool>,
    /// The record, as it was read last.
    pub record: Option<Record>,
    /// How long ago the last renewal of the lease was seen; `None`: not since the store was out of reach.
    pub renewed: Option<Duration>,
    /// Why nobody is nominated, where the primary is suspected.
    pub why_not: Option<NoCandidate>,
    /// What would prove the end of the primary, where that is waited for.
    pub awaits: Vec<Awaited>,
    /// The nodes and the other controllers.
    pub processes: BTreeMap<NodeName, Seen>,
}

/// A proof that is not there yet (S2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The primary's agent gives the lease back: it is heard.
    Released,
    /// More voters stop.
    Quorum,
    /// A fence device turns the node off.
    Power,
    /// The lease ends for this observer, after that time without a renewal.
    Lease(Duration),
}

/// Another process, as far as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How long ago it was heard; `None`: never.
    pub heard: Option<Duration>,
    /// Whether that is too long.
    pub silent: bool,
    /// What it said last.
    pub report: Option<Report>,
    /// Of a member: why it does not become the primary now; `None`: it may.
    pub unfit: Option<Unfit>,
}

impl Coordinator {
    /// How it is at `now`.
    #[must_use]
    pub fn view(&self, now: Moment) -> View {
        let record = self.desk.record();
        let stage = self.stage();
        let since = self.since.filter(|since| since.stage == stage);
        View {
            stage,
            in_stage: since.map(|since| now.since(since.at)),
            reachable: self.desk.reachable(),
            record: record.cloned(),
            renewed: self.seen.map(|seen| now.since(seen.at)),
            why_not: self.why_not(),
            awaits: record.map(|record| self.awaits(now, record)).unwrap_or_default(),
            processes: record.map(|record| self.processes(now, record)).unwrap_or_default(),
        }
    }

    /// When the last renewal of the lease was seen, and of which epoch.
    #[must_use]
    pub fn renewed(&self) -> Option<(Epoch, Moment)> {
        self.seen.map(|seen| (seen.epoch, seen.at))
    }

    fn awaits(&self, now: Moment, record: &Record) -> Vec<Awaited> {
        if record.freeze.is_none()
            || record.nomination.is_some()
            || self.proof(now, record, &self.frozen(record)).is_some()
        {
            return Vec::new();
        }
        let holder = record.lease.node();
        let Some(renewal) = last_renewal(record) else { return Vec::new() };
        let mut awaits = Vec::new();
        if !self.hearing.is_silent(now, holder, &record.pace) {
            awaits.push(Awaited::Released);
        }
        if record.doubts.is_empty() && !record.voters.may_acknowledge_alone() {
            awaits.push(Awaited::Quorum);
        }
        if self.devices.contains(holder) && self.asked.is_some_and(|asked| asked.renewal == renewal)
        {
            awaits.push(Awaited::Power);
        }
        let proven = record.pace.lease.proven_after();
        let gone = self.seen.map_or(Duration::ZERO, |seen| now.since(seen.at));
        awaits.push(Awaited::Lease(proven.saturating_sub(gone)));
        awaits
    }

    fn processes(&self, now: Moment, record: &Record) -> BTreeMap<NodeName, Seen> {
        let fit = self.candidates(now);
        let all = record.members.keys().chain([record.lease.node()]).chain(&self.controllers);
        let look = |node: &NodeName| {
            let report = self.hearing.report(node);
            let seen = Seen {
                heard: report.map(|_| now.since(self.hearing.since(node))),
                silent: self.hearing.is_silent(now, node, &record.pace),
                report: report.cloned(),
                unfit: fit.get(node).cloned().flatten(),
            };
            (node.clone(), seen)
        };
        all.map(look).collect()
    }
}
