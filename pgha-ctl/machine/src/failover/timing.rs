//! How long a lease is, and everything that follows from that.
//!
//! A holder counts its lease from *before* it sent the renewal, everybody else from when they saw it. So
//! whatever the holder does by its own clock is done before others may take the lease for ended:
//!
//! ```text
//!   sent ──────┬─────────┬──────────────┬───────────────────┬──────────┬───────►
//!              │         │              │                   │          │
//!              renewed   renewed again  dropped and killed  gate shut  proven ended by others
//!              T/4       T/2            0.6 T               T          T x 1.01 + 50 ms
//!                                       └─ the watchdog resets the node at the latest here ─┘
//! ```
//!
//! All of it is whole nanoseconds, rounded so that the holder stops sooner and others wait longer.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest lease: below it the 50 ms that clocks and kernels are given are no small part of it.
pub const SHORTEST: Duration = Duration::from_millis(500);
/// The longest: so long nobody writes when its holder is lost and can be proven gone by nothing else.
pub const LONGEST: Duration = Duration::from_mins(1);
/// The least time between two renewals: each is a durable write of the store.
pub const OFTENEST: Duration = Duration::from_millis(20);
/// The least that a holder has to stop PostgreSQL in, between dropping its lease and its end.
pub const TO_STOP: Duration = Duration::from_millis(150);
/// What observers wait beyond the lease and its hundredth: to be woken, and to look.
const SLACK: Duration = Duration::from_millis(50);
/// Watchdogs of the kernel count in these (Documentation/watchdog/watchdog-api.rst, `WDIOC_SETTIMEOUT`).
const SECOND: Duration = Duration::from_secs(1);

/// Timings that go well together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// 1 s: for a network and disks that keep nobody waiting 100 ms.
    Fast,
    /// 2 s.
    Default,
    /// 5 s, and a watchdog of the kernel.
    Safe,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Default, Self::Safe];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
            Self::Safe => "safe",
        }
    }

    const fn duration(self) -> Duration {
        match self {
            Self::Fast => Duration::from_secs(1),
            Self::Default => Duration::from_secs(2),
            Self::Safe => Duration::from_secs(5),
        }
    }
}

/// What somebody wants: a profile, and what is to be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the rest comes from.
    pub profile: Profile,
    /// See [`Timings::duration`].
    pub duration: Option<Duration>,
    /// See [`Timings::renew_every`].
    pub renew_every: Option<Duration>,
    /// See [`Timings::drop_after`].
    pub drop_after: Option<Duration>,
    /// See [`Timings::watchdog`]; the profile `safe` has one.
    pub watchdog: Option<bool>,
}

impl From<Profile> for Wanted {
    fn from(profile: Profile) -> Self {
        Self { profile, duration: None, renew_every: None, drop_after: None, watchdog: None }
    }
}

/// Which of the timings is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// [`Timings::duration`]
    Duration,
    /// [`Timings::renew_every`]
    RenewEvery,
    /// [`Timings::drop_after`]
    DropAfter,
    /// [`Timings::watchdog`]
    Watchdog,
}

/// Why timings cannot be safe, or cannot last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum Unsafe {
    #[error("{value:?} is no time for a lease; give {SHORTEST:?} to {LONGEST:?}")]
    Duration { value: Duration },
    #[error(
        "{value:?} is too often for a store that writes each renewal to disk; give at least {OFTENEST:?}"
    )]
    TooOften { value: Duration },
    #[error(
        "{value:?} is too rarely: one lost renewal would stop PostgreSQL, which is dropped after {drop_after:?}; give at most {most:?}"
    )]
    TooRarely { value: Duration, drop_after: Duration, most: Duration },
    #[error(
        "{value:?} leaves too little of a lease of {duration:?} to stop PostgreSQL in; give at most {most:?}"
    )]
    TooLate { value: Duration, duration: Duration, most: Duration },
    #[error(
        "a watchdog counts whole seconds, and a lease of {duration:?} that is dropped after {drop_after:?} leaves it none; make the lease longer, drop it sooner, or do without"
    )]
    NoSecond { duration: Duration, drop_after: Duration },
}

impl Unsafe {
    /// What is to be changed.
    #[must_use]
    pub const fn field(&self) -> Field {
        match self {
            Self::Duration { .. } => Field::Duration,
            Self::TooOften { .. } | Self::TooRarely { .. } => Field::RenewEvery,
            Self::TooLate { .. } => Field::DropAfter,
            Self::NoSecond { .. } => Field::Watchdog,
        }
    }
}

/// Timings by which no two nodes can acknowledge at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Timings {
    duration: Duration,
    renew_every: Duration,
    drop_after: Duration,
    watchdog: bool,
}

/// Timings as they were written, by whomever.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    duration: Duration,
    renew_every: Duration,
    drop_after: Duration,
    watchdog: bool,
}

impl TryFrom<Written> for Timings {
    type Error = Unsafe;

    fn try_from(written: Written) -> Result<Self, Unsafe> {
        let Written { duration, renew_every, drop_after, watchdog } = written;
        let timings = Self { duration, renew_every, drop_after, watchdog };
        timings.wrong().first().copied().map_or(Ok(timings), Err)
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::of(Profile::Default.into())
    }
}

impl Wanted {
    /// The timings wanted.
    ///
    /// # Errors
    /// Everything by which they cannot be safe.
    pub fn judge(self) -> Result<Timings, Vec<Unsafe>> {
        let timings = Timings::of(self);
        let wrong = timings.wrong();
        if wrong.is_empty() { Ok(timings) } else { Err(wrong) }
    }
}

impl Timings {
    fn of(wanted: Wanted) -> Self {
        let duration = wanted.duration.unwrap_or(wanted.profile.duration());
        Self {
            duration,
            renew_every: wanted.renew_every.unwrap_or(duration / 4),
            drop_after: wanted.drop_after.unwrap_or(share(duration, 3, 5)),
            watchdog: wanted.watchdog.unwrap_or(wanted.profile == Profile::Safe),
        }
    }

    /// Each rule by itself; those about a lease that is no lease say nothing more.
    fn wrong(&self) -> Vec<Unsafe> {
        let &Self { duration, renew_every, drop_after, watchdog } = self;
        if !(SHORTEST..=LONGEST).contains(&duration) {
            return vec![Unsafe::Duration { value: duration }];
        }
        let mut wrong = Vec::new();
        let latest = share(duration, 4, 5).min(duration - TO_STOP);
        if drop_after > latest {
            wrong.push(Unsafe::TooLate { value: drop_after, duration, most: latest });
        }
        let rarest = drop_after / 2;
        if renew_every < OFTENEST {
            wrong.push(Unsafe::TooOften { value: renew_every });
        } else if renew_every > rarest {
            wrong.push(Unsafe::TooRarely { value: renew_every, drop_after, most: rarest });
        }
        if watchdog && self.watchdog_timeout().is_none() {
            wrong.push(Unsafe::NoSecond { duration, drop_after });
        }
        wrong
    }

    /// T: for how long a renewal lets its holder acknowledge, from before it was sent. Then the gate is shut.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// When the holder renews again, counted from the renewal before.
    #[must_use]
    pub const fn renew_every(&self) -> Duration {
        self.renew_every
    }

    /// When a holder without a confirmed renewal drops the writer VIP and kills PostgreSQL.
    #[must_use]
    pub const fn drop_after(&self) -> Duration {
        self.drop_after
    }

    /// Whether a watchdog of the kernel resets the node if nobody is left there to drop the lease.
    #[must_use]
    pub const fn watchdog(&self) -> bool {
        self.watchdog
    }

    /// What the watchdog is set to, in whole seconds. It is fed until [`Timings::drop_after`] at the latest, so
    /// it resets the node within the lease. `None`: no second is left for that.
    #[must_use]
    pub fn watchdog_timeout(&self) -> Option<Duration> {
        let left = self.duration.checked_sub(self.drop_after)?.as_secs();
        (left > 0).then(|| SECOND * u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// For how long observers see no renewal before the lease is proven to have ended (a fence proof), and for
    /// how long who grants something in the failsafe keeps the promise: T x 1.01 + 50 ms, rounded up.
    #[must_use]
    pub fn proven_after(&self) -> Duration {
        let hundredfold = self.duration * 101;
        let down = hundredfold / 100;
        let up = if down * 100 == hundredfold { down } else { down + Duration::from_nanos(1) };
        up + SLACK
    }

    /// When a renewing holder may undo a freeze that brought no nomination, and how long all observers must fail to
    /// reach a holder that renews before they may freeze: 2 T.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.duration * 2
    }

    /// The longest that one request to the store may take: a renewal without an answer leaves time for another
    /// before the lease is dropped.
    #[must_use]
    pub fn longest_request(&self) -> Duration {
        self.drop_after.saturating_sub(self.renew_every)
    }
}

/// A part of a time, rounded down.
fn share(of: Duration, part: u32, parts: u32) -> Duration {
    of * part / parts
}
