//! The store is put back from a backup: its record is one that was there before.
//!
//! What must hold: whose disk says that the record had come further, by its epoch or the renewals in it, believes
//! none of it. (Freezes alone do not tell: a controller that was restarted knows nothing, and counts them on in a
//! record that is old.) Where every node knows that, nothing of it has an effect on PostgreSQL: all rules hold on,
//! and nobody becomes the primary before an operator has said what is to be. That is where stores are put back
//! here. A member whose disk knows less believes what it reads once its agent is restarted, and no rule can help it:
//! of renewals the disk knows every 64th.

use pgha_machine::failover::record::{Progress, Record};

use crate::oracle::Violation;
use crate::world::{World, node_name};

impl World {
    /// Somebody makes a backup of the store.
    pub(crate) fn back_up(&mut self) {
        self.backups.push(self.store.backup());
    }

    /// Puts a backup back of which every member knows that it is old, if there is one. With it all processes are
    /// restarted, or none.
    pub(crate) fn put_back(&mut self) {
        let restarts = self.rng.bool();
        let old = |progress: Progress| {
            // Also who has left: in the backup it is a member still.
            let mut nodes = 0..self.plan.nodes;
            let come = |of: Progress| (of.epoch, of.renewal);
            nodes.all(|node| come(self.nodes[node].kept.progress) > come(progress))
        };
        let Some(at) = self.backups.iter().rposition(|backup| old(backup.record.progress())) else {
            return;
        };
        let backup = self.backups[at].clone();
        let anew = self.rng.bool();
        self.say(|| format!("FAULT the store is put back to {:?}", backup.record.progress()));
        let truth = self.store.record().clone();
        self.truth.get_or_insert(truth);
        self.store.restore(backup, anew);
        if restarts {
            for node in 0..self.plan.nodes {
                self.crash_agent(node);
                self.start_agent(node);
            }
            for of in 0..self.plan.controllers {
                self.crash_controller(of);
                self.start_controller(of);
            }
        }
    }

    /// What the members go by: the record or, after the store was put back, what it was before.
    pub(crate) fn record(&self) -> &Record {
        self.truth.as_ref().unwrap_or_else(|| self.store.record())
    }

    /// Nobody goes back to less than it knew.
    pub(crate) fn forgets_nothing(&mut self, node: usize) {
        let of = &self.nodes[node];
        let kept = of.kept.progress;
        let read = of.agent.as_ref().and_then(|agent| Some(agent.record()?.progress()));
        if read.is_some_and(|read| !kept.admits(read)) {
            self.say(|| format!("{} had kept {kept:?}", node_name(node)));
            self.check(Err(Violation::WentBack { node }));
        }
    }
}
