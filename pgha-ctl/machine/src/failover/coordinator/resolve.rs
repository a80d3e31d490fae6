//! What is done while the voters stop: the first proof, the best candidate, or nothing, where it was wrong.

use super::{Asked, Coordinator, Effect, Seen, Since, last_renewal};
use crate::failover::election::{Election, Frozen, elect_among, elect_forced};
use crate::failover::message::{Message, Report};
use crate::failover::record::{Lease, Proof, Record, Takeover};
use crate::failover::rules::Rule;
use crate::{Epoch, Moment, NodeName};

impl Coordinator {
    /// Looks for a proof and a candidate; undoes the freeze where the primary is well.
    pub(super) fn resolve(&mut self, now: Moment, record: &Record) -> Option<Record> {
        let frozen = self.frozen(record);
        if let Some(proof) = self.proof(now, record, &frozen) {
            match self.elect(now, record, &frozen) {
                Election::Candidate(_) if self.awaits_others(now, record, &frozen) => {}
                Election::Candidate(node) => {
                    let by = self.name.clone();
                    return record.nominate(node, by, proof, &frozen, self.rules).ok();
                }
                Election::CatchUp { node, from } => self.catch_up(now, record, node, from),
                Election::Nobody(_) => {
                    if let Some(next) = self.force(now, record, proof, &frozen) {
                        return Some(next);
                    }
                }
            }
        }
        // One that came back after it was turned off is not turned off again for that.
        if self.suspicion(now, record).is_some() {
            self.turn_off(now, record);
        }
        if self.is_well(now, record) { record.thaw().ok() } else { None }
    }

    /// Where the primary may have acknowledged alone, any of them may have what no other has: whoever is heard
    /// has the time to stop.
    fn awaits_others(&self, now: Moment, record: &Record, frozen: &Frozen) -> bool {
        record.voters.may_acknowledge_alone() && self.others_come(now, record, frozen)
    }

    /// Whether somebody who is heard has time yet to stop, and to tell what it has.
    fn others_come(&self, now: Moment, record: &Record, frozen: &Frozen) -> bool {
        let began = self.since.map_or(now, |since| since.at);
        // A primary that was relieved has everything, and comes back as one of those who stopped.
        let relieved = record.ordered().is_some() && record.holder().is_none();
        let comes = |node: &NodeName| {
            (relieved || node != record.lease.node())
                && !frozen.contains_key(node)
                && !self.hearing.is_silent(now, node, &record.pace)
        };
        now.since(began) < record.pace.lease.duration() && record.members.keys().any(comes)
    }

    /// What an operator has ordered, where no rule finds a candidate and the end of the primary is proven without
    /// the voters (S2).
    fn force(
        &mut self,
        now: Moment,
        record: &Record,
        proof: Proof,
        frozen: &Frozen,
    ) -> Option<Record> {
        let proof = match proof {
            Proof::Quorum => self.proof_of_end(now, record)?,
            Proof::Released | Proof::Power | Proof::Lease => proof,
        };
        let there = |node: &NodeName| !self.hearing.is_silent(now, node, &record.pace);
        record.forced().filter(|node| self.is_able(now, record, node))?;
        if self.others_come(now, record, frozen) {
            return None;
        }
        match elect_forced(record, frozen, there, self.rules)? {
            Election::Candidate(node) => {
                let by = self.name.clone();
                record.nominate_forced(node, by, proof, frozen, self.rules).ok()
            }
            Election::CatchUp { node, from } => {
                self.catch_up(now, record, node, from);
                None
            }
            Election::Nobody(_) => None,
        }
    }

    fn catch_up(&mut self, now: Moment, record: &Record, to: NodeName, from: NodeName) {
        if self.caught_up.is_none_or(|at| now.since(at) >= record.pace.heartbeat) {
            self.caught_up = Some(now);
            let message = Message::CatchUp { epoch: record.epoch, freeze: record.freezes, from };
            self.effects.push_back(Effect::Send { to, message });
        }
    }

    /// The first proof that there is (S2).
    pub(super) fn proof(&self, now: Moment, record: &Record, frozen: &Frozen) -> Option<Proof> {
        let stays = |node: &NodeName| {
            frozen.contains_key(node)
                && self.hearing.report(node).is_some_and(|report| !report.restores)
        };
        let quorum = || record.doubts.is_empty() && record.voters.blocked_by(stays);
        match record.lease {
            Lease::Held { .. } if quorum() => Some(Proof::Quorum),
            Lease::Held { .. } | Lease::Released { .. } => self.proof_of_end(now, record),
        }
    }

    /// The first proof that needs no voter.
    fn proof_of_end(&self, now: Moment, record: &Record) -> Option<Proof> {
        if matches!(record.lease, Lease::Released { .. }) {
            return Some(Proof::Released);
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

    /// One question at a time; one that failed is asked again after a while.
    fn turn_off(&mut self, now: Moment, record: &Record) {
        let holder = record.lease.node();
        let Some(renewal) = last_renewal(record).filter(|_| self.devices.contains(holder)) else {
            return;
        };
        let due = self.asked.is_none_or(|asked| match asked.answered {
            None => false,
            Some((_, true)) => asked.renewal != renewal,
            Some((at, false)) => now.since(at) >= record.pace.lease.duration(),
        });
        if due {
            self.asked = Some(Asked { renewal, answered: None });
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

    /// Chooses among those who are there. Who stopped and was lost since counts only where they are too few: for
    /// what it had, and never as the candidate.
    fn elect(&self, now: Moment, record: &Record, frozen: &Frozen) -> Election {
        let there = |node: &NodeName| !self.hearing.is_silent(now, node, &record.pace);
        let able = |node: &NodeName| self.is_able(now, record, node);
        let well = frozen.iter().filter(|(node, _)| able(node));
        let well = well.map(|(node, wal)| (node.clone(), wal.clone())).collect();
        let wanted = |node: &NodeName| self.is_wanted(now, record, node);
        match elect_among(record, &well, wanted, there, self.rules) {
            // One that is ill may have what no other has, and can give it still.
            Election::Nobody(_) => {
                let able = |node: &NodeName| able(node) && wanted(node);
                elect_among(record, frozen, able, there, self.rules)
            }
            enough @ (Election::Candidate(_) | Election::CatchUp { .. }) => enough,
        }
    }

    /// Whether an operator's order, if there is one, lets that node become the primary. A primary is better than
    /// none: after a lease, or when the one that is named is gone, anybody may.
    fn is_wanted(&self, now: Moment, record: &Record, node: &NodeName) -> bool {
        let Some(ordered) = record.ordered() else { return true };
        let began = self.since.map_or(now, |since| since.at);
        if now.since(began) >= record.pace.lease.duration() {
            return true;
        }
        match &ordered.takeover {
            Takeover::Best => node != record.lease.node(),
            Takeover::To(named) | Takeover::Force(named) => {
                let ill = || self.hearing.report(named).is_some_and(|report| report.faulty);
                node == named || self.hearing.is_silent(now, named, &record.pace) || ill()
            }
        }
    }

    /// Whether it is heard, and would be the primary.
    fn is_able(&self, now: Moment, record: &Record, node: &NodeName) -> bool {
        !self.hearing.is_silent(now, node, &record.pace)
            && self.hearing.report(node).is_some_and(|report| !report.faulty)
    }

    /// Who stopped for this freeze, with a known log.
    pub(super) fn frozen(&self, record: &Record) -> Frozen {
        let stopped = |(node, report): (&NodeName, &Report)| {
            let at = report.frozen.as_ref().filter(|at| at.freeze == record.freezes)?;
            Some((node.clone(), at.wal.clone()?))
        };
        self.hearing.reports().filter_map(stopped).collect()
    }
}
