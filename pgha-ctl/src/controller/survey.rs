//! The flow tables, gone through from time to time: how many flows are open at each real server, which the
//! scheduler `least` goes by (the data plane does not see what its tables evict), how full the tables are,
//! and the end of closing flows in a table that fills.

use pgha_common::flow::Tick;
use pgha_machine::balancer::Scheduler;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Controller;
use super::status::FlowsInUse;
use crate::bpf::xdp::{Survey, XdpError};
use crate::clock::boot_time;

/// How many passes of the controller make one survey; with the scheduler `least` each does. A table is
/// expected not to go from three quarters to full between two.
const PASSES: u32 = 6;

/// A survey in progress, if any, and what the last one saw.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    task: Option<JoinHandle<Result<Survey, XdpError>>>,
    /// Since the last one began; `None` before the first.
    passes: Option<u32>,
    in_use: Option<FlowsInUse>,
}

impl Surveys {
    /// What it saw; waits where none is in progress. Cancel-safe.
    pub(super) async fn result(&mut self) -> Result<Survey, XdpError> {
        loop {
            let Some(task) = &mut self.task else { return std::future::pending().await };
            let ended = task.await;
            self.task = None;
            // It fails otherwise only when the controller ends.
            if let Ok(surveyed) = ended {
                return surveyed;
            }
        }
    }

    /// The flows that the tables held at the end of the last one.
    pub(super) const fn in_use(&self) -> Option<FlowsInUse> {
        self.in_use
    }

    /// Whether one is to begin with this pass: never two at once.
    fn is_due(&mut self, each_pass: bool) -> bool {
        let passes = self.passes.map_or(PASSES, |passes| passes.saturating_add(1));
        let due = self.task.is_none() && (each_pass || passes >= PASSES);
        self.passes = Some(if due { 0 } else { passes });
        due
    }
}

impl Controller {
    /// Begins a survey if one is due, on a thread of its own.
    pub(super) fn survey(&mut self) {
        let least = |scheduler| scheduler == Scheduler::Least;
        let each_pass = self.config.services().iter().any(|service| least(service.scheduler));
        if !self.surveys.is_due(each_pass) {
            return;
        }
        match self.plane.flow_reader() {
            Ok(reader) => {
                let survey = move || reader.survey(Tick::at(boot_time()));
                self.surveys.task = Some(spawn_blocking(survey));
            }
            Err(error) => not_surveyed(&error),
        }
    }

    /// Takes in what a survey saw.
    pub(super) fn surveyed(&mut self, surveyed: Result<Survey, XdpError>) {
        let taken_in = surveyed.and_then(|survey| {
            if survey.swept > 0 {
                tracing::debug!(
                    "{} flows that were closing were removed from tables that fill",
                    survey.swept
                );
            }
            self.surveys.in_use = Some(FlowsInUse::of(&survey));
            self.plane.correct_open(&survey.open)
        });
        if let Err(error) = taken_in {
            not_surveyed(&error);
        }
    }
}

fn not_surveyed(error: &XdpError) {
    tracing::warn!(
        "the flow tables could not be gone through, trying again soon: the scheduler least goes by what it \
         saw, and closing flows stay: {error}"
    );
}

#[cfg(test)]
mod tests;
