//! What operators order: looked at before anything is frozen, written once, and answered when it is in the record.

use std::collections::BTreeMap;

use super::{Coordinator, Effect};
use crate::failover::order::Refusal;
use crate::failover::record::{Doubt, Kinship, Lease, Mode, Ordered, Record, Takeover};
use crate::{Epoch, Moment, NodeName};

/// An order that is in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Accepted {
    /// The epoch that it ends.
    pub epoch: Epoch,
    /// The freeze that it is carried out by.
    pub freeze: u64,
}

/// Why a node does not become the primary now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Unfit {
    /// It is.
    #[error("it is the primary")]
    Primary,
    /// Nobody is to choose it.
    #[error("it is marked nofailover")]
    NoFailover,
    /// The primary would not ask it when the store is gone (S8).
    #[error("the primary has not confirmed it as a member yet")]
    Unconfirmed,
    /// Its agent is not heard.
    #[error("its agent is not heard")]
    Silent,
    /// Its agent says that it cannot be the primary.
    #[error("its disk does not write, or its link is down")]
    Faulty,
    /// It is to stop, and has not.
    #[error("it has not stopped streaming yet")]
    NotFrozen,
    /// The end of its log is not known.
    #[error("it has stopped, and the end of its log is not known yet")]
    LogUnknown,
    /// Its log has something that the cluster's does not have.
    #[error("its log is not a beginning of the cluster's: it has to be rewound")]
    Diverged,
    /// It lacks what may have been acknowledged.
    #[error("its log does not reach what was acknowledged before its epoch's voters were in use")]
    BelowFloor,
}

/// Why an order is not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Declined {
    /// Nobody knows how it is.
    #[error(
        "the record cannot be read: the store does not answer, or nobody has founded the cluster"
    )]
    Unread,
    /// The record does not allow it.
    #[error(transparent)]
    Refused(Refusal),
    /// There is a primary, and nothing need be lost.
    #[error(
        "{0} is the primary: it renews its lease and is heard; pgha failover has another node follow it, and \
         loses nothing"
    )]
    GoesOn(NodeName),
    /// The one that is named.
    #[error("{node} cannot become the primary: {why}")]
    Unfit {
        /// Who.
        node: NodeName,
        /// Why.
        why: Unfit,
    },
    /// Everybody.
    #[error("nobody could follow: {}", listed(.0))]
    NobodyFit(BTreeMap<NodeName, Unfit>),
    /// What was acknowledged may be on a voter that is not heard.
    #[error(
        "nobody could follow: {have} of {of} voters are heard, and {needed} are needed to be sure that nothing is lost"
    )]
    TooFewVoters {
        /// That are heard.
        have: usize,
        /// That are needed.
        needed: usize,
        /// In the set.
        of: usize,
    },
    /// Nobody knows what was acknowledged.
    #[error(
        "nobody could follow: somebody else streamed under the name of {0}, so that what was acknowledged need not be \
         on a voter"
    )]
    Impersonated(NodeName),
}

fn listed(unfit: &BTreeMap<NodeName, Unfit>) -> String {
    unfit.iter().map(|(node, why)| format!("{node}: {why}")).collect::<Vec<_>>().join("; ")
}

/// An order that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) ordered: Ordered,
    pub(super) since: Moment,
}

impl Coordinator {
    /// Answers what can be answered. Returns what the first order that may be carried out makes of the record.
    pub(super) fn order(&mut self, now: Moment) -> Option<Record> {
        let mut next = None;
        for pending in std::mem::take(&mut self.pending) {
            match self.judge(now, &pending) {
                Judged::Answer(result) => {
                    let number = pending.number;
                    self.effects.push_back(Effect::Answered { number, result });
                }
                Judged::Write(record) => {
                    next = next.or(Some(*record));
                    self.pending.push_back(pending);
                }
                Judged::Wait => self.pending.push_back(pending),
            }
        }
        next
    }

    fn judge(&self, now: Moment, pending: &Pending) -> Judged {
        let record = self.desk.record();
        if let Some(accepted) = record.and_then(|record| accepted(record, &pending.ordered)) {
            return Judged::Answer(Ok(accepted));
        }
        let Some(record) = record.filter(|_| self.desk.is_ready()) else {
            let patience = record.map_or(super::FIRST_READ, |record| record.pace.lease.duration());
            let late = now.since(pending.since) >= patience;
            return if late { Judged::Answer(Err(Declined::Unread)) } else { Judged::Wait };
        };
        match self.allow(now, record, &pending.ordered) {
            Ok(next) => Judged::Write(Box::new(next)),
            // Somebody else has ordered the same.
            Err(Declined::Refused(Refusal::Nothing)) => {
                let (epoch, freeze) = (record.epoch, record.freezes);
                Judged::Answer(Ok(Accepted { epoch, freeze }))
            }
            Err(declined) => Judged::Answer(Err(declined)),
        }
    }

    /// What the order makes of the record, where somebody could follow.
    fn allow(&self, now: Moment, record: &Record, ordered: &Ordered) -> Result<Record, Declined> {
        let by = self.name.clone();
        let next = record.take_over(by, ordered.clone()).map_err(Declined::Refused)?;
        match &ordered.takeover {
            Takeover::Force(node) => {
                if self.goes_on(now, record) {
                    return Err(Declined::GoesOn(record.lease.node().clone()));
                }
                // That it is not to be chosen, or lacks something, is what the order overrides.
                let hinders = |why: &Unfit| {
                    use Unfit::{Diverged, Faulty, Silent, Unconfirmed};
                    matches!(why, Silent | Faulty | Unconfirmed | Diverged)
                };
                if let Some(why) = self.unfit(now, record, node).filter(hinders) {
                    return Err(Declined::Unfit { node: node.clone(), why });
                }
            }
            Takeover::To(node) => {
                self.enough_voters(now, record)?;
                if let Some(why) = self.unfit_at_rest(now, record, node) {
                    return Err(Declined::Unfit { node: node.clone(), why });
                }
            }
            Takeover::Best => {
                self.enough_voters(now, record)?;
                let look = |node: &NodeName| {
                    self.unfit_at_rest(now, record, node).map(|why| (node.clone(), why))
                };
                let unfit: BTreeMap<_, _> = record.members.keys().filter_map(look).collect();
                if unfit.len() == record.members.len() {
                    return Err(Declined::NobodyFit(unfit));
                }
            }
        }
        Ok(next)
    }

    /// Whether there is a primary that renews and is heard, and complains of nothing.
    fn goes_on(&self, now: Moment, record: &Record) -> bool {
        let holder = record.lease.node();
        let renews = self.seen.is_some_and(|seen| now.since(seen.at) < record.pace.overdue());
        let healthy = self.hearing.report(holder).is_some_and(|report| !report.fault);
        let heard = !self.hearing.is_silent(now, holder, &record.pace);
        matches!(record.lease, Lease::Held { .. }) && renews && heard && healthy
    }

    /// Whether so many voters are heard that they can prove what was acknowledged, once they have stopped.
    fn enough_voters(&self, now: Moment, record: &Record) -> Result<(), Declined> {
        let there = |node: &NodeName| self.is_heard(now, record, node);
        for set in record.voters.sets.iter().filter(|set| !set.is_open()) {
            let have = set.nodes.iter().filter(|node| there(node)).count();
            let (needed, of) = (set.nodes.len() - set.quorum + 1, set.nodes.len());
            if have < needed {
                return Err(Declined::TooFewVoters { have, needed, of });
            }
        }
        let strict = matches!(record.mode, Mode::Strict { .. });
        let impersonated = record.doubts.iter().find_map(|doubt| match doubt {
            Doubt::Impersonated(node) => Some(node.clone()),
            Doubt::Lowered(_) => None,
        });
        impersonated.filter(|_| strict).map_or(Ok(()), |node| Err(Declined::Impersonated(node)))
    }

    fn is_heard(&self, now: Moment, record: &Record, node: &NodeName) -> bool {
        self.hearing.report(node).is_some() && !self.hearing.is_silent(now, node, &record.pace)
    }

    /// Why a node would not become the primary, by what is known before anybody stops.
    fn unfit_at_rest(&self, now: Moment, record: &Record, node: &NodeName) -> Option<Unfit> {
        let member = record.members.get(node)?;
        if record.lease.node() == node {
            return Some(Unfit::Primary);
        }
        if !member.confirmed {
            return Some(Unfit::Unconfirmed);
        }
        if !self.is_heard(now, record, node) {
            return Some(Unfit::Silent);
        }
        if self.hearing.report(node).is_some_and(|report| report.faulty) {
            return Some(Unfit::Faulty);
        }
        member.nofailover.then_some(Unfit::NoFailover)
    }

    /// Why a node does not become the primary: where voters are to stop, also what it has told since.
    pub(super) fn unfit(&self, now: Moment, record: &Record, node: &NodeName) -> Option<Unfit> {
        let at_rest = self.unfit_at_rest(now, record, node);
        // A primary that gave the lease back may follow itself.
        let at_rest = at_rest.filter(|why| *why != Unfit::Primary || record.holder().is_some());
        if at_rest.is_some() || record.freeze.is_none() {
            return at_rest;
        }
        let stopped = self.hearing.report(node).and_then(|report| report.frozen.as_ref());
        let Some(at) = stopped.filter(|at| at.freeze == record.freezes) else {
            return Some(Unfit::NotFrozen);
        };
        match &at.wal {
            None => Some(Unfit::LogUnknown),
            Some(wal) if record.kinship(wal) == Kinship::Diverged => Some(Unfit::Diverged),
            Some(wal) => (!wal.contains(record.voters.floor)).then_some(Unfit::BelowFloor),
        }
    }
}

enum Judged {
    Answer(Result<Accepted, Declined>),
    Write(Box<Record>),
    Wait,
}

/// Whether an order is in the record, or was carried out already.
fn accepted(record: &Record, ordered: &Ordered) -> Option<Accepted> {
    let freeze = record.freezes;
    if record.ordered() == Some(ordered) {
        return Some(Accepted { epoch: record.epoch, freeze });
    }
    let by_term = record.terms.iter().zip(record.terms.iter().skip(1)).find(|(_, term)| {
        term.cause.as_ref().and_then(|cause| cause.ordered.as_ref()) == Some(ordered)
    });
    by_term.map(|(before, _)| Accepted { epoch: before.epoch, freeze })
}
