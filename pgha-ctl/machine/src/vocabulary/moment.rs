use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment of a monotonic clock that the driver reads: milliseconds since some beginning, the same for
/// all moments of one machine.
///
/// Arithmetic saturates: before the beginning lies the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `milliseconds` after the clock's beginning.
    #[must_use]
    pub const fn new(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since the clock's beginning.
    #[must_use]
    pub const fn milliseconds(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; nothing where it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A part of a millisecond is dropped.
fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<Duration> for Moment {
    /// The moment so long after the clock's beginning.
    fn from(since_beginning: Duration) -> Self {
        Self(whole(since_beginning))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole(duration)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole(duration)))
    }
}
