//! The clock of a node: it began at another time than the others, and runs a little faster or slower.

use pgha_machine::Moment;

/// Time of the world, in milliseconds since it began. No node knows it.
pub(crate) type Time = u64;

/// Millionths by which two clocks may run apart; a lease allows for ten thousand.
const DRIFT: i64 = 4_000;

/// The clock of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset: u64,
    drift: i64,
}

impl Clock {
    pub(crate) fn draw(rng: &mut fastrand::Rng) -> Self {
        Self { offset: rng.u64(0..1_000_000), drift: rng.i64(-DRIFT..=DRIFT) }
    }

    /// What it shows.
    pub(crate) fn at(self, time: Time) -> Moment {
        let time = i64::try_from(time).unwrap_or(i64::MAX);
        let shown = time + time * self.drift / 1_000_000;
        Moment::new(self.offset + u64::try_from(shown).unwrap_or(0))
    }

    /// The first millisecond at which it shows `moment` or more.
    pub(crate) fn when(self, moment: Moment, from: Time) -> Time {
        let shown = moment.milliseconds().saturating_sub(self.offset);
        let factor = u64::try_from(1_000_000 + self.drift).unwrap_or(1);
        let mut time = from.max(shown.saturating_mul(1_000_000) / factor);
        while self.at(time) < moment {
            time += 1;
        }
        time
    }
}
