//! When the data plane is written. With many services of many servers that takes a while, in which the loop hears
//! nobody: while servers come up one after the other, it is not to be done for each of them.

use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How many times as long as writing took the next has to wait that may: a fifth of the time is spent on it.
const REST: u32 = 4;
/// The longest that a server waits for its first client by this.
const LONGEST: Duration = Duration::from_secs(1);
/// What takes no longer is not waited for.
const SHORT: Duration = Duration::from_millis(10);

/// Whether there is something to write, and when.
#[derive(Debug)]
pub(super) struct Pace {
    wanted: bool,
    not_before: Instant,
}

impl Pace {
    /// There is nothing to write, and no need to wait.
    pub(super) const fn new(now: Instant) -> Self {
        Self { wanted: false, not_before: now }
    }

    /// There is something to write that may wait: servers get more.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// There is something to write that may not.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.wanted = true;
        self.not_before = self.not_before.min(now);
    }

    /// When it is to be written; `None`: there is nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wanted.then_some(self.not_before)
    }

    /// All of it was written.
    pub(super) fn written(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        let rest = if took > SHORT { (took * REST).min(LONGEST) } else { Duration::ZERO };
        (self.wanted, self.not_before) = (false, ended + rest);
    }
}
