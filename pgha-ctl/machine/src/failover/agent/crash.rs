//! Who goes on after a crash of PostgreSQL on the primary: this node once more, or another.
//!
//! How long the recovery of a primary takes nobody knows before it is over, while a standby is promoted at once. So
//! another node takes over where that costs no safety: whatever was acknowledged has a voter, and after one of them is
//! promoted there are still as many as a commit waits for.

use super::Agent;
use crate::{Moment, NodeName};

/// How PostgreSQL ended as the primary, where nobody ordered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Crash {
    /// It did not.
    None,
    /// It is started again here, as often as the budget of restarts has it.
    InPlace,
    /// The lease is given back.
    HandOver,
}

impl Crash {
    /// Whether there was one; it is dealt with from here on.
    pub(super) fn take(&mut self) -> bool {
        std::mem::replace(self, Self::None) != Self::None
    }
}

impl Agent {
    /// PostgreSQL has ended as the primary; who goes on is judged once.
    pub(super) fn crashed(&mut self, now: Moment) {
        if self.crash == Crash::None {
            let hands_over = self.hand_over && self.others_can_go_on(now);
            self.crash = if hands_over { Crash::HandOver } else { Crash::InPlace };
        }
    }

    /// Whether there is a controller, enough voters to know what was acknowledged, one more than a commit waits for,
    /// and a candidate among them, all of whom are heard; and a store.
    fn others_can_go_on(&self, now: Moment) -> bool {
        let Some(record) = self.desk.record() else { return false };
        let voters = &record.voters;
        let heard = |node: &NodeName| !self.hearing.is_silent(now, node, &record.pace);
        let there = || voters.wanted().nodes.iter().filter(|node| heard(node));
        let can = |node: &&NodeName| {
            let able = self.hearing.report(node).is_some_and(|report| !report.faulty);
            let member = record.members.get(*node);
            able && member.is_some_and(|member| member.confirmed && !member.nofailover)
        };
        self.desk.reachable() == Some(true)
            && self.controllers.iter().any(heard)
            && voters.blocked_by(heard)
            && there().count() > voters.wanted().quorum
            && there().any(|node| can(&node))
    }
}
