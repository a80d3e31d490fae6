//! How often one source may begin a connection: the generic cell rate algorithm (ITU-T I.371, annex A),
//! whose whole state is one moment.

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// What a limit costs and grants, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Between two connections in the long run.
    pub interval: u64,
    /// How far a source may be ahead of that.
    pub tolerance: u64,
}

impl Limit {
    /// So many connections per second, and so many at once; both at least 1.
    #[must_use]
    pub const fn new(rate: u32, burst: u32) -> Self {
        let interval = SECOND / if rate == 0 { 1 } else { rate as u64 };
        Self { interval, tolerance: interval * (burst as u64).saturating_sub(1) }
    }

    /// Whether a connection may begin `now`, for a source whose next one is `due`: the moment from which
    /// on the next one is due then, or `None` when it came too early.
    #[must_use]
    #[inline(always)]
    pub const fn admit(&self, due: u64, now: u64) -> Option<u64> {
        if due > now.saturating_add(self.tolerance) {
            return None;
        }
        Some(if due > now { due } else { now } + self.interval)
    }
}

#[cfg(test)]
mod tests;
