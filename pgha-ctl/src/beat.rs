//! When periodic work is done: at moments that much of it has in common.
//!
//! To be woken up costs a thread more than what it does then for one server: what it needs has left the
//! processor's caches meanwhile. So the work of an interval is done in a few portions, each in one go.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Moments that divide each interval into [`Self::A_ROUND`] equal parts, the same for everybody in this process
/// who has that interval. Whoever has a turn has one of them in each interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beats {
    origin: Instant,
    /// In nanoseconds.
    interval: u64,
}

impl Beats {
    /// How many there are in an interval: so few that each is of many servers, and so many that no portion
    /// keeps other work waiting for long.
    pub(crate) const A_ROUND: u32 = 10;

    /// Those of an interval.
    pub(crate) fn of(interval: Duration) -> Self {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self::since(*ORIGIN, interval)
    }

    fn since(origin: Instant, interval: Duration) -> Self {
        let nanoseconds = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self { origin, interval: nanoseconds.max(Self::A_ROUND.into()) }
    }

    /// The next of whoever has this turn, and had it last at `moment`, or began then: an interval later, or half
    /// an interval more or less where `moment` was none of its turns.
    pub(crate) fn next(self, turn: u32, moment: Instant) -> Instant {
        let parts = u64::from(Self::A_ROUND);
        let offset = self.interval / parts * (u64::from(turn) % parts);
        let earliest = moment + Duration::from_nanos(self.interval / 2);
        let passed = earliest.saturating_duration_since(self.origin);
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        let number = passed.saturating_sub(offset).div_ceil(self.interval);
        self.origin
            + Duration::from_nanos(offset.saturating_add(self.interval.saturating_mul(number)))
    }
}
