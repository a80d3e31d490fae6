use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of a timeline: one history of the write-ahead log. A promotion begins the next (PostgreSQL
/// documentation, "Timelines").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(u32);

impl Timeline {
    /// The timeline with that id.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// Its id.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
