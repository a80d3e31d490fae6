//! A node that stays ill when everything else is mended. The cluster goes on without it, where it can bear that.

use std::collections::BTreeSet;

use pgha_machine::NodeName;
use pgha_machine::failover::record::{Kinship, Mode, Record};

use crate::world::{World, node_name};

/// What never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Illness {
    /// The machine is off.
    Off,
    /// The agent's process is gone; PostgreSQL goes on as long as it may.
    NoAgent,
    /// Its disk does not write, or the link of its address is down.
    Faulty,
}

impl World {
    /// One node falls ill for good, if the plan says so and the others can do without it.
    pub(crate) fn fall_ill(&mut self) {
        let Some(illness) = self.plan.illness else { return };
        let node = self.rng.usize(0..self.plan.nodes);
        let ill = node_name(node);
        let bearable = is_bearable(self.store.record(), &ill) && self.is_known_without(&ill);
        if !bearable || (illness == Illness::Faulty && self.has_left_all_behind(node)) {
            return;
        }
        self.say(|| format!("n{node} stays ill: {illness:?}"));
        match illness {
            Illness::Off => self.power_off(node),
            Illness::NoAgent => self.crash_agent(node),
            Illness::Faulty => self.faulty(node, true),
        }
        self.ill = Some((node, illness));
    }

    /// Whether what was acknowledged is on the disk of another node, and one that may become the primary could
    /// stream it from there.
    fn is_known_without(&self, ill: &NodeName) -> bool {
        let record = self.store.record();
        let follows = |name: &&NodeName| {
            self.process_of(name).is_some_and(|other| {
                let pg = &self.nodes[other].postgres;
                // Also what it has written and has not flushed yet comes to its disk.
                !pg.torn && record.kinship(&pg.log.wal()) == Kinship::Follows
            })
        };
        let has = |name: &&NodeName| {
            self.process_of(name).is_some_and(|other| {
                self.nodes[other].postgres.durable().contains(record.voters.floor)
            })
        };
        let others = || record.members.keys().filter(|name| *name != ill).filter(follows);
        others().any(|name| has(&name)) && others().any(|name| record.members[name].confirmed)
    }

    /// Whether a node, which may have more than the others, cannot give them what they lack: they wait for it for as long
    /// as it is heard.
    fn has_left_all_behind(&self, node: usize) -> bool {
        let begins = self.nodes[node].postgres.begins;
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        others.into_iter().any(|(_, other)| other.postgres.log.len() < begins)
    }

    /// Whether a node is to be as it is.
    pub(crate) fn stays(&self, node: usize, illness: Illness) -> bool {
        self.ill == Some((node, illness))
    }
}

/// Whether the rules let the others go on by themselves: there is one of them who may become the primary, as many
/// besides as `strict` waits for, and enough voters of every set to prove that nothing is lost. What only the
/// primary may have acknowledged can be too much to lose, so that it must not be the one.
fn is_bearable(record: &Record, ill: &NodeName) -> bool {
    let others: BTreeSet<_> = record.members.keys().filter(|name| *name != ill).collect();
    let needed = match record.mode {
        Mode::Strict { quorum } => quorum,
        Mode::Async { .. } | Mode::Sync { .. } => 0,
    };
    let known = record.voters.sets.iter().all(|set| {
        let there = set.nodes.iter().filter(|name| others.contains(name)).count();
        set.is_open() || there > set.nodes.len() - set.quorum
    });
    let alone = record.voters.may_acknowledge_alone() && record.lease.node() == ill;
    others.len() > needed && known && !alone
}
