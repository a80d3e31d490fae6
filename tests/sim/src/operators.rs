//! What operators do: they read the record and put what an order makes of it, or order another primary of a
//! controller.

use pgha_machine::NodeName;
use pgha_machine::failover::coordinator::Event;
use pgha_machine::failover::message::Message;
use pgha_machine::failover::order::Refusal;
use pgha_machine::failover::record::{Member, Mode, Ordered, Record, Takeover};

use crate::world::{Occurrence, World, node_name};

impl World {
    /// An operator gives some order, and another one later.
    pub(crate) fn operate(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.rng.u64(self.plan.operators / 2..self.plan.operators * 2);
        self.after(pause, Occurrence::Operator);
        let node = node_name(self.rng.usize(0..self.plan.nodes));
        let (nofailover, priority) = (self.rng.bool(), self.rng.i32(0..3));
        let member = member(&mut self.rng);
        let mode = mode(&mut self.rng, self.plan.nodes);
        match self.rng.u8(0..9) {
            8 => self.clear(&node),
            6..=7 => self.take_over(node),
            0..=1 => self.give("tag", |record| record.tag(&node, nofailover, priority)),
            2 => self.give("mode", |record| record.set_mode(mode)),
            3 => self.give("leave", |record| record.leave(&node)),
            _ => self.give("join", |record| record.join(node.clone(), &member)),
        }
    }

    /// An operator has a controller tell a node to count its failures anew.
    fn clear(&mut self, node: &NodeName) {
        let of = self.rng.usize(0..self.plan.controllers);
        self.say(|| format!("OPERATOR to c{of}: clear the failures of {node}"));
        self.send(self.plan.nodes + of, node, Message::Clear);
    }

    /// An operator has a controller see to it that another node is the primary.
    fn take_over(&mut self, node: NodeName) {
        let takeover = match self.rng.u8(0..4) {
            0 => Takeover::Best,
            1 => Takeover::To(node),
            _ => Takeover::Force(node),
        };
        // Nobody works with a store that was put back.
        if self.truth.is_some() {
            return;
        }
        let of = self.rng.usize(0..self.plan.controllers);
        let (run, number) = (self.controllers[of].run, self.now);
        self.say(|| format!("OPERATOR to c{of}, order {number}: {takeover:?}"));
        let ordered = Ordered { takeover, by: "operator".to_owned(), at: number };
        self.controller_hears(of, run, Event::Ordered { number, ordered });
    }

    /// When all is mended every node is a member, and may be chosen.
    pub(crate) fn welcome_all(&mut self) {
        for node in (0..self.plan.nodes).map(node_name) {
            let member = Member { confirmed: false, nofailover: false, priority: 0 };
            self.give("join", |record| record.join(node.clone(), &member));
            self.give("tag", |record| record.tag(&node, false, 0));
        }
    }

    fn give(&mut self, what: &str, order: impl FnOnce(&Record) -> Result<Record, Refusal>) {
        // Nobody works with a store that was put back.
        if self.truth.is_some() {
            return;
        }
        let mark = self.store.reading().mark;
        match order(self.store.record()) {
            Ok(next) => {
                self.say(|| format!("OPERATOR {what}: {:?} {:?}", next.mode, next.members));
                self.put(mark, next);
            }
            Err(refusal) => {
                self.coverage.refused(&refusal);
                self.say(|| format!("OPERATOR {what}: {refusal}"));
            }
        }
    }

    /// A node joins that was no part of the cluster before.
    pub(crate) fn join(&mut self, node: usize) {
        let member = member(&mut self.rng);
        self.give("join", |record| record.join(node_name(node), &member));
    }
}

pub(crate) fn member(rng: &mut fastrand::Rng) -> Member {
    Member { confirmed: false, nofailover: rng.u8(0..8) == 0, priority: rng.i32(0..3) }
}

/// A mode that so many nodes may have.
pub(crate) fn mode(rng: &mut fastrand::Rng, nodes: usize) -> Mode {
    let quorum = if nodes > 3 && rng.bool() { 2 } else { 1 };
    match rng.u8(0..8) {
        0 => Mode::Async { max_lag: rng.u64(0..20) },
        1..=4 => Mode::Sync { quorum, max_lag: rng.u64(0..20) },
        _ => Mode::Strict { quorum },
    }
}
