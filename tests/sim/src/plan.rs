//! What a schedule begins with, drawn from a seed.

use std::time::Duration;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::Mode;
use pgha_machine::failover::rules::Rules;
use pgha_machine::failover::timing::{Profile, Wanted};

use crate::breach::Breach;
use crate::clock::Time;
use crate::lame::Illness;
use crate::operators::mode;
use crate::stories::{Ending, Story};

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
    /// What the world breaks its word by.
    pub breach: Option<Breach>,
    /// How long things last.
    pub pace: Pace,
    /// How often PostgreSQL is restarted in a term.
    pub restarts: u32,
    /// Whether another node takes over after a crash, where one can at once.
    pub hand_over: bool,
    /// How many of a thousand messages are lost, and answers of the store.
    pub loss: u32,
    /// How many of a thousand are late, by up to several leases.
    pub late: u32,
    /// How many of a thousand messages come twice.
    pub doubled: u32,
    /// Whether the store may be put back from a backup.
    pub restores: bool,
    /// How often a fault happens, on average, in milliseconds.
    pub faults: Time,
    /// How often an operator gives an order, on average, in milliseconds; 0: never.
    pub operators: Time,
    /// What one node has when faults end, and keeps.
    pub illness: Option<Illness>,
    /// What happens where nothing is left to chance.
    pub story: Option<Story>,
    /// A process that ends in it.
    pub ending: Option<Ending>,
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
        let mode = mode(&mut rng, nodes);
        let calm = rng.u64(1_000..4_500);
        // One in five shows that things go on when the faults have ended.
        let end = if rng.u8(0..5) == 0 { calm + RECOVERY } else { calm + 800 };
        Self {
            seed,
            nodes,
            controllers: 1 + rng.usize(0..2),
            mode,
            rules,
            breach: None,
            pace: Pace {
                lease: Wanted::from(Profile::Fast).judge().expect("a profile is safe"),
                heartbeat: Duration::from_millis(150),
                silence: Duration::from_millis(350),
            },
            restarts: rng.u32(0..3),
            // Not drawn among the others: what a seed was is what it is.
            hand_over: fastrand::Rng::with_seed(!seed).bool(),
            loss: [0, 0, 10, 100][rng.usize(0..4)],
            late: [0, 0, 10, 100][rng.usize(0..4)],
            doubled: [0, 10, 100][rng.usize(0..3)],
            restores: rng.u8(0..8) == 0,
            faults: [200, 500, 1_000][rng.usize(0..3)],
            illness: [
                None,
                None,
                Some(Illness::Off),
                Some(Illness::NoAgent),
                Some(Illness::Faulty),
            ][rng.usize(0..5)],
            operators: [0, 300, 1_000][rng.usize(0..3)],
            story: None,
            ending: None,
            calm,
            end,
        }
    }

    /// A story and nothing else: no message is lost or late, and whatever goes wrong is of the story, or a command
    /// that does not work at once.
    #[must_use]
    pub fn telling(seed: u64, story: Story, mode: Mode, controllers: usize) -> Self {
        let calm = story.over();
        Self {
            nodes: 3,
            controllers,
            mode,
            restarts: u32::from(story != Story::Crashed),
            hand_over: false,
            loss: 0,
            late: 0,
            doubled: 0,
            restores: false,
            faults: Time::from(u32::MAX),
            illness: None,
            operators: 0,
            story: Some(story),
            calm,
            end: calm + RECOVERY / 2,
            ..Self::of(seed, Rules::default())
        }
    }

    /// The same story, and a process ends in it.
    #[must_use]
    pub fn ending(self, ending: Ending) -> Self {
        Self { ending: Some(ending), ..self }
    }

    /// The same, in a world that breaks its word.
    #[must_use]
    pub fn with(self, breach: Breach) -> Self {
        Self { breach: Some(breach), ..self }
    }

    /// Whether the schedule lasts long enough after the faults that a primary must be there again.
    #[must_use]
    pub const fn shows_progress(&self) -> bool {
        self.story.is_some() || self.end >= self.calm + RECOVERY
    }
}
