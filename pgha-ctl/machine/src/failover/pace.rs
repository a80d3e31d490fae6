//! How often everybody does what it does all the time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::timing::Timings;

/// How long things last. Everybody reads it from the record, so that nobody counts by another measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// The lease.
    pub lease: Timings,
    /// How often everybody tells everybody that it lives.
    pub heartbeat: Duration,
    /// How long without such a word makes a suspicion.
    pub silence: Duration,
}

impl Pace {
    /// From when on renewals no longer move on: a fifth more than their interval, and at least 100 ms.
    #[must_use]
    pub fn overdue(&self) -> Duration {
        let interval = self.lease.renew_every();
        interval + (interval / 5).max(Duration::from_millis(100))
    }
}
