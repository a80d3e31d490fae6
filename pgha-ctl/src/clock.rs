//! `CLOCK_BOOTTIME`: it never goes back, and counts while the machine is suspended. Whatever ends at a moment that
//! the kernel's programs are to know goes by it.

mod timer;

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use pgha_machine::Moment;

pub(crate) use timer::Timer;

/// Nanoseconds in a millisecond, the unit of [`Moment`].
const MILLISECOND: u64 = 1_000_000;

/// Nanoseconds since the machine started.
#[must_use]
pub fn boot_time() -> u64 {
    // The kernel has this clock since 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        let nanoseconds = time.tv_sec() * 1_000_000_000 + time.tv_nsec();
        u64::try_from(nanoseconds).unwrap_or(0)
    })
}

/// The moment it is. A part of a millisecond is dropped, so that what is counted from it ends too early, never
/// too late.
#[must_use]
pub fn now() -> Moment {
    moment(boot_time())
}

/// The moment that many nanoseconds after the machine started; a part of a millisecond is dropped.
#[must_use]
pub(crate) const fn moment(nanoseconds: u64) -> Moment {
    Moment::new(nanoseconds / MILLISECOND)
}

/// A moment in nanoseconds since the machine started.
#[must_use]
pub(crate) const fn nanoseconds(moment: Moment) -> u64 {
    moment.milliseconds().saturating_mul(MILLISECOND)
}

/// The clock on the wall: milliseconds since the Unix epoch. Nothing is decided by it.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
