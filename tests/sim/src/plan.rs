//! What a schedule begins with, drawn from a seed.

use std::time::Duration;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::Mode;
use pgha_machine::failover::rules::Rules;
use pgha_machine::failover::timing::{Profile, Wanted};

use crate::clock::Time;

/// How long after the last fault somebody must acknowledge again.
const RECOVERY: Time = 10_000;

/// A schedule, before chance has played on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything else is drawn from.
    pub seed: u64,
    /// Nodes with PostgreSQL.
    pub nodes: usize,
    /// Controllers.
    pub controllers: usize,
    /// What a commit waits for.
    pub mode: Mode,
    /// The rules that hold.
    pub rules: Rules,
    /// How long things last.
    pub pace: Pace,
    /// How often PostgreSQL is restarted in a term.
    pub restarts: u32,
    /// How many of a thousand messages are lost, and answers of the store.
    pub loss: u32,
    /// How many of a thousand are late by up to half a lease.
    pub late: u32,
    /// How often a fault happens, on average, in milliseconds.
    pub faults: Time,
    /// When faults end.
    pub calm: Time,
    /// When the schedule ends.
    pub end: Time,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64, rules: Rules) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let nodes = [3, 3, 3, 4, 5][rng.usize(0..5)];
        let quorum = if nodes > 3 && rng.bool() { 2 } else { 1 };
        let mode = match rng.u8(0..8) {
            0 => Mode::Async { max_lag: rng.u64(0..20) },
            1..=4 => Mode::Sync { quorum, max_lag: rng.u64(0..20) },
            _ => Mode::Strict { quorum },
        };
        let calm = rng.u64(1_000..4_500);
        // One in five shows that things go on when the faults have ended.
        let end = if rng.u8(0..5) == 0 { calm + RECOVERY } else { calm + 800 };
        Self {
            seed,
            nodes,
            controllers: 1 + rng.usize(0..2),
            mode,
            rules,
            pace: Pace {
                lease: Wanted::from(Profile::Fast).judge().expect("a profile is safe"),
                heartbeat: Duration::from_millis(150),
                silence: Duration::from_millis(350),
            },
            restarts: rng.u32(0..3),
            loss: [0, 0, 10, 100][rng.usize(0..4)],
            late: [0, 0, 10, 100][rng.usize(0..4)],
            faults: [200, 500, 1_000][rng.usize(0..3)],
            calm,
            end,
        }
    }

    /// Whether the schedule lasts long enough after the faults that a primary must be there again.
    #[must_use]
    pub const fn shows_progress(&self) -> bool {
        self.end >= self.calm + RECOVERY
    }
}
