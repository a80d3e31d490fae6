//! What the guardian decides. Pure: no clock, no file.

#[cfg(test)]
mod tests;

use pgha_machine::Moment;
use serde::{Deserialize, Serialize};

/// What is guarded, if anything.
///
/// ```text
///            guard(start, until)           guard or renew of the same start
///  nothing ───────────────────────▶ guarded ◀─┐
///     ▲                                │  └───┘
///     │ stand down; or the moment is   │
///     └──────── there: surrender ◀─────┘
/// ```
#[derive(Debug, Default)]
pub(super) struct Watch {
    guarded: Option<Guarded>,
}

#[derive(Clone, Copy, Debug)]
struct Guarded {
    start: u64,
    until: Moment,
}

/// An order that was not followed. What was guarded before still is, until the moment that was told before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Another start is guarded.
    #[error("it guards start {guarded}; stand down for that first")]
    OtherStart {
        /// Which.
        guarded: u64,
    },
    /// Nothing is guarded.
    #[error("it guards nothing: the moment has come, or it was told to stand down")]
    Nothing,
    /// What it would need at the moment cannot be opened.
    #[error("it could not do it: {why}")]
    Unable {
        /// What failed.
        why: String,
    },
    /// It belongs to somebody else.
    #[error("it takes no orders from user {user}, only from root and from its own user")]
    Stranger {
        /// The number of the user who asked.
        user: u32,
    },
    /// It does not know the order.
    #[error("it does not understand: {why}")]
    Unclear {
        /// What is wrong with it.
        why: String,
    },
}

impl Watch {
    /// When to surrender, if anything is guarded.
    pub(super) fn due(&self) -> Option<Moment> {
        self.guarded.map(|guarded| guarded.until)
    }

    /// Whether nothing is guarded.
    pub(super) const fn is_idle(&self) -> bool {
        self.guarded.is_none()
    }

    /// The start to surrender now, once. Asked before any order is looked at, so that none comes too late and
    /// counts all the same.
    pub(super) fn over(&mut self, now: Moment) -> Option<u64> {
        self.guarded.take_if(|guarded| guarded.until <= now).map(|guarded| guarded.start)
    }

    /// Whether that start may be guarded: no other is.
    pub(super) fn admits(&self, start: u64) -> Result<(), Refusal> {
        match self.guarded {
            Some(Guarded { start: guarded, .. }) if guarded != start => {
                Err(Refusal::OtherStart { guarded })
            }
            _ => Ok(()),
        }
    }

    /// Guards a start until a moment. The agent that comes back says this again.
    pub(super) fn guard(&mut self, start: u64, until: Moment) -> Result<(), Refusal> {
        self.admits(start)?;
        self.guarded = Some(Guarded { start, until });
        Ok(())
    }

    /// Moves the moment: on, or nearer.
    pub(super) fn renew(&mut self, start: u64, until: Moment) -> Result<(), Refusal> {
        if self.is_idle() {
            return Err(Refusal::Nothing);
        }
        self.guard(start, until)
    }

    /// Guards that start no more. That it is not guarded is no error.
    pub(super) fn stand_down(&mut self, start: u64) -> Result<(), Refusal> {
        self.admits(start)?;
        self.guarded = None;
        Ok(())
    }
}
