//! Whether a server is up, by its checks.

use serde::{Deserialize, Serialize};

use super::Finding;
use crate::balancer::withheld::Withheld;

/// Whether new connections may go to a server, by its checks alone.
///
/// ```text
///                  good x rise                 refused, not accepting, not in recovery: at once
///   +-----------+ -------------> +----+        failed x fall, while others answer
///   | Unproven  |                | Up | ----------------------------------------------+
///   +-----------+ <-+            +----+                                               v
///         |         | bad          ^        good x rise                          +---------+
///         +---------+              +-------------------------------------------- |  Down   |
///         |                                                                      +---------+
///         +--------------- refused, not accepting, not in recovery -------------------^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Never up since this controller knows it; so many good checks in a row.
    Unproven(u8),
    /// Up; so many checks in a row were answered with errors.
    Up(u8),
    /// Down for a reason; so many good checks in a row.
    Down(Down, u8),
}

/// Why a server is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// Its port refuses connections: dead.
    Refused,
    /// `fall` checks failed, and between them others answered: dead.
    Silent,
    /// It takes no new sessions; those it has go on.
    NotAccepting,
    /// `fall` checks were answered with errors; its sessions may go on.
    Failing,
    /// It is not in recovery: a primary is no reader.
    NotInRecovery,
    /// It answers, but has not passed enough checks since it was out; the sessions it has go on.
    Unproven,
}

impl Down {
    /// Whether this is direct evidence that its sessions are gone.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Refused | Self::Silent)
    }

    /// What is left of this reason when the server answers, well or badly: it is not dead.
    #[must_use]
    const fn alive(self) -> Self {
        if self.is_dead() { Self::Unproven } else { self }
    }

    /// As a reason for which a server gets no new connections.
    #[must_use]
    pub const fn withheld(self) -> Withheld {
        match self {
            Self::Refused => Withheld::Refused,
            Self::Silent => Withheld::Silent,
            Self::NotAccepting => Withheld::NotAccepting,
            Self::Failing => Withheld::Failing,
            Self::NotInRecovery => Withheld::NotInRecovery,
            Self::Unproven => Withheld::Unproven,
        }
    }
}

impl Health {
    /// The health after one more check. `gone` says that this is at least the `fall`th silence in a
    /// row that others broke: a silence of everybody is this node's own, and does not count.
    #[must_use]
    pub fn after(&self, finding: &Finding, rise: u8, fall: u8, gone: bool) -> Self {
        let proven = |passed: u8, otherwise: fn(u8) -> Self| {
            if passed >= rise { Self::Up(0) } else { otherwise(passed) }
        };
        match (self, finding) {
            (Self::Unproven(passed), Finding::Standby(_)) => {
                proven(passed.saturating_add(1), Self::Unproven)
            }
            (Self::Up(_), Finding::Standby(_)) => Self::Up(0),
            (Self::Down(down, passed), Finding::Standby(_)) => {
                let passed = passed.saturating_add(1);
                if passed >= rise { Self::Up(0) } else { Self::Down(down.alive(), passed) }
            }
            (_, Finding::Refused) => Self::Down(Down::Refused, 0),
            (_, Finding::NotAccepting) => Self::Down(Down::NotAccepting, 0),
            (_, Finding::NotInRecovery { .. }) => Self::Down(Down::NotInRecovery, 0),
            (
                Self::Unproven(_),
                Finding::Answered(_)
                | Finding::Silent(_)
                | Finding::LoginRefused(_)
                | Finding::Undecided(_),
            ) => Self::Unproven(0),
            (Self::Up(failed), Finding::LoginRefused(_) | Finding::Undecided(_)) => {
                Self::Up(*failed)
            }
            (Self::Down(down, _), Finding::LoginRefused(_)) => Self::Down(down.alive(), 0),
            (Self::Down(down, _), Finding::Undecided(_)) => Self::Down(*down, 0),
            (Self::Up(failed), Finding::Answered(_)) => {
                let failed = failed.saturating_add(1);
                if failed >= fall { Self::Down(Down::Failing, 0) } else { Self::Up(failed) }
            }
            (Self::Up(_) | Self::Down(..), Finding::Silent(_)) if gone => {
                Self::Down(Down::Silent, 0)
            }
            (Self::Up(failed), Finding::Silent(_)) => Self::Up(*failed),
            (Self::Down(down, _), Finding::Silent(_)) => Self::Down(*down, 0),
            (Self::Down(down, _), Finding::Answered(_)) => Self::Down(down.alive(), 0),
        }
    }

    /// Whether it may get new connections.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }

    /// Whether its sessions are gone.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(self, Self::Down(down, _) if down.is_dead())
    }
}
