//! Many schedules at once.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::coverage::Coverage;
use crate::oracle::Violation;
use crate::plan::Plan;
use crate::world::{Outcome, run};

/// What came of many schedules.
#[derive(Debug, Default)]
pub struct Campaign {
    /// How many were played.
    pub schedules: u64,
    traces: HashSet<u64>,
    /// What they went through.
    pub coverage: Coverage,
    /// What must never be, with the seed that shows it, the lowest first.
    pub failures: Vec<(u64, Violation)>,
    events: u64,
    acknowledged: usize,
    failovers: u64,
    took: Duration,
}

impl Campaign {
    /// Plays the plans of the seeds on all cores, until `enough` of them fail by what `counts`.
    #[must_use]
    pub fn play(
        seeds: Range<u64>,
        plan: impl Fn(u64) -> Plan + Sync,
        enough: usize,
        counts: impl Fn(&Violation) -> bool + Sync,
    ) -> Self {
        let begun = Instant::now();
        let next = AtomicU64::new(seeds.start);
        let campaign = Mutex::new(Self::default());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let play = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                let outcome = run(&plan(seed), false);
                let mut campaign = campaign.lock().unwrap_or_else(PoisonError::into_inner);
                if campaign.failures.len() >= enough {
                    break;
                }
                campaign.add(seed, outcome, &counts);
            }
        };
        thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(play);
            }
        });
        let mut campaign = campaign.into_inner().unwrap_or_else(PoisonError::into_inner);
        campaign.failures.sort_by_key(|(seed, _)| *seed);
        campaign.took = begun.elapsed();
        campaign
    }

    fn add(&mut self, seed: u64, outcome: Outcome, counts: impl Fn(&Violation) -> bool) {
        self.schedules += 1;
        self.traces.insert(outcome.trace);
        self.coverage.add(&outcome.coverage);
        self.events += outcome.events;
        self.acknowledged += outcome.acknowledged;
        self.failovers += outcome.epoch - 1;
        let violation = outcome.violation.map(|(_, violation)| violation);
        self.failures.extend(violation.filter(counts).map(|violation| (seed, violation)));
    }

    /// How many of them were different from all others.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.traces.len()
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} schedules, {} distinct, in {:.1} s: {} events, {} failovers, {} acknowledged commits",
            self.schedules,
            self.distinct(),
            self.took.as_secs_f64(),
            self.events,
            self.failovers,
            self.acknowledged
        )?;
        write!(f, "{}", self.coverage)
    }
}
