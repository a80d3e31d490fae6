//! How many flows are open at each real server, counted anew from time to time: the scheduler `least` goes
//! by it, and the data plane does not see which flows its tables evict.

use std::collections::BTreeMap;

use pgha_machine::balancer::Scheduler;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Controller;
use crate::bpf::xdp::XdpError;

/// How many open flows each real server has, by id and generation.
type Counts = BTreeMap<(u16, u16), u64>;

/// A count in progress, if any.
#[derive(Debug, Default)]
pub(super) struct Count(Option<JoinHandle<Result<Counts, XdpError>>>);

impl Count {
    /// What it came to; waits where none is in progress. Cancel-safe.
    pub(super) async fn result(&mut self) -> Result<Counts, XdpError> {
        loop {
            let Some(task) = &mut self.0 else { return std::future::pending().await };
            let ended = task.await;
            self.0 = None;
            // It fails otherwise only when the controller ends.
            if let Ok(counted) = ended {
                return counted;
            }
        }
    }
}

impl Controller {
    /// Begins to count, unless nobody goes by it.
    pub(super) fn count_open(&mut self) {
        let least = |scheduler| scheduler == Scheduler::Least;
        let wanted = self.config.services().iter().any(|service| least(service.scheduler));
        if !wanted || self.count.0.is_some() {
            return;
        }
        match self.plane.flow_reader() {
            Ok(reader) => self.count.0 = Some(spawn_blocking(move || reader.count_open())),
            Err(error) => not_counted(&error),
        }
    }

    /// Takes in a count.
    pub(super) fn counted(&mut self, counted: Result<Counts, XdpError>) {
        if let Err(error) = counted.and_then(|counts| self.plane.correct_open(&counts)) {
            not_counted(&error);
        }
    }
}

fn not_counted(error: &XdpError) {
    tracing::warn!(
        "open flows could not be counted, the scheduler least goes by what it saw: {error}"
    );
}
