//! Whether the primary is suspected, and why. That is no proof of anything.

use super::Coordinator;
use crate::failover::record::{Record, Suspicion};
use crate::{Moment, NodeName};

impl Coordinator {
    /// Suspicion is no proof. While renewals move on, only the primary's own word freezes, or that no
    /// controller and less than half of the members hear of it for two leases. One observer alone waits for
    /// the lease.
    pub(super) fn suspicion(&self, now: Moment, record: &Record) -> Option<Suspicion> {
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
    pub(super) fn nobody_hears(&self, now: Moment, record: &Record) -> bool {
        let holder = record.lease.node();
        let deaf = |node: &NodeName| {
            self.hearing.report(node).is_some_and(|report| report.silent.contains(holder))
                && !self.hearing.is_silent(now, node, &record.pace)
        };
        let members = || record.members.keys().filter(|member| *member != holder);
        // A controller that is gone hears nobody either.
        let gone = |node: &NodeName| self.hearing.is_silent(now, node, &record.pace);
        self.hearing.is_silent(now, holder, &record.pace)
            && self.controllers.iter().all(|node| gone(node) || deaf(node))
            && members().filter(|member| deaf(member)).count() * 2 >= members().count()
    }
}
