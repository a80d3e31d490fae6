use serde::{Deserialize, Serialize};

use super::{Lsn, Timeline};

/// A place in the write-ahead log of a cluster that was promoted before: an LSN is unique only within a
/// timeline (PostgreSQL documentation, "Timelines").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which history.
    pub timeline: Timeline,
    /// Where in it.
    pub lsn: Lsn,
}

/// Which write-ahead log a node has: its end, and where it left each older timeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wal {
    /// Behind the last byte that is on disk: of what was received and of what was replayed, whichever is
    /// later. Not the last checkpoint.
    pub end: Position,
    /// Where each older timeline was left, the oldest first: what the timeline's history file says.
    pub left: Vec<Position>,
}

impl Wal {
    /// A log of which nothing can be used. It is on no timeline that there is.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { end: Position { timeline: Timeline::new(0), lsn: Lsn::new(0) }, left: Vec::new() }
    }

    /// How far it goes on a timeline; `None` where it never was on that.
    #[must_use]
    pub fn extent(&self, timeline: Timeline) -> Option<Lsn> {
        let on = |position: &&Position| position.timeline == timeline;
        self.left.iter().chain([&self.end]).find(on).map(|position| position.lsn)
    }

    /// Whether everything before `position` is in it.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        self.extent(position.timeline).is_some_and(|lsn| lsn >= position.lsn)
    }

    /// Its timelines, the oldest first.
    pub fn timelines(&self) -> impl Iterator<Item = Timeline> {
        self.left.iter().chain([&self.end]).map(|position| position.timeline)
    }
}
