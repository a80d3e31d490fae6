//! When the oracle is asked, and with what.

use pgha_machine::failover::record::Mode;

use crate::agents::Node;
use crate::oracle::{self, Violation};
use crate::postgres::{State, Waiting};
use crate::world::{World, node_name};

impl World {
    /// A node begins to accept writes: it must have everything, and the right.
    pub(crate) fn opened(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        let shown = of.clock.at(self.now);
        if !of.postgres.passes(shown) {
            // Nobody sees it.
            return;
        }
        let pg = &of.postgres;
        let forced = oracle::is_forced(self.store.record(), pg.epoch);
        let (epoch, result) = (pg.epoch, self.oracle.opens(&pg.log, pg.epoch, forced));
        self.check(result);
        if !oracle::licensed(self.record(), &node_name(node), epoch) {
            self.check(Err(Violation::Unlicensed { node }));
        }
    }

    /// S3: whatever PostgreSQL goes by stands in the record.
    pub(crate) fn announced(&mut self, node: usize) {
        let of = &self.nodes[node];
        let (pg, record) = (&of.postgres, self.record());
        let known = |set| record.voters.sets.contains(set);
        if matches!(pg.state, State::Primary { .. })
            && pg.epoch == record.epoch
            && !pg.used().all(known)
        {
            self.check(Err(Violation::Unannounced { node }));
        }
    }

    /// A client is told that its commit is done.
    pub(crate) fn told(&mut self, node: usize, Waiting { place, commit }: Waiting) {
        let now = self.now;
        let epoch = self.nodes[node].postgres.epoch;
        let record = self.truth.as_ref().unwrap_or_else(|| self.store.record());
        let result = self.oracle.acknowledge(now, (place, commit, epoch), record);
        let copies = || {
            let has = |other: &Node| {
                let pg = &other.postgres;
                pg.flushed() > place && pg.log.has(place, commit)
            };
            let others = self.nodes.iter().enumerate().filter(|(of, _)| *of != node);
            others.filter(|(_, other)| has(other)).count()
        };
        // From the moment on when it is certain that nobody waits for less.
        let result = result.and(match record.mode {
            Mode::Strict { quorum }
                if record.epoch == epoch
                    && record.voters.sets.iter().all(|set| set.quorum >= quorum) =>
            {
                let copies = copies();
                if copies < quorum { Err(Violation::TooFew { commit, copies }) } else { Ok(()) }
            }
            Mode::Async { .. } | Mode::Sync { .. } | Mode::Strict { .. } => Ok(()),
        });
        self.check(result);
    }

    /// A client reads on a primary. What it sees first after a crash, a quorum must have too (S7).
    pub(crate) fn read(&mut self, node: usize) {
        let Some(length) = self.nodes[node].postgres.recovered.take() else { return };
        self.opened(node);
        let pg = &self.nodes[node].postgres;
        let has = |name: &pgha_machine::NodeName| {
            self.process_of(name)
                .is_some_and(|other| pg.log.shares(&self.nodes[other].postgres.log, length))
        };
        // Those that are announced since do not count before they are settled.
        let record = self.record();
        if record.epoch == pg.epoch && !record.voters.sets[0].acknowledged_by(has) {
            let end = pgha_machine::Lsn::new(length as u64);
            self.check(Err(Violation::SeenAlone { node, end }));
        }
    }
}
