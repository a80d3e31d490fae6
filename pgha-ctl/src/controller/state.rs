//! A real server in one word, for who looks at many of them.

#[cfg(test)]
mod tests;

use pgha_machine::balancer::{ServerRole, ServerView, Standing, WeightReason, Withheld};
use serde::{Deserialize, Serialize};

/// What a real server is to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It gets them.
    Up,
    /// It passes its checks, and gets none by an operator's word; it keeps those it has.
    Drained,
    /// It passes its checks, and gets none for another reason.
    Out,
    /// It has not passed enough checks yet.
    Checking,
    /// It passes none.
    Down,
    /// It passes none, and its sessions are gone.
    Dead,
    /// It is the primary, which is no reader as long as there are others.
    Primary,
}

impl ServerState {
    /// That of a server. Who serves is up, whatever else is to be said of it, and who fails its checks is down
    /// also while it is drained.
    #[must_use]
    pub fn of(server: &ServerView) -> Self {
        match server.health {
            _ if server.withheld.is_empty() => Self::Up,
            // Of former writers' sessions nobody wants to know any more.
            _ if server.withheld == [Withheld::NotPrimary] => Self::Out,
            _ if server.dead => Self::Dead,
            // It passes its checks as a primary, and fails those as a reader.
            _ if server.role == ServerRole::Primary => Self::Primary,
            Standing::Down => Self::Down,
            Standing::Checking => Self::Checking,
            Standing::Up if server.drained.is_some() => Self::Drained,
            Standing::Up => Self::Out,
        }
    }

    /// Its word, in JSON too.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drained => "drained",
            Self::Out => "out",
            Self::Checking => "checking",
            Self::Down => "down",
            Self::Dead => "dead",
            Self::Primary => "primary",
        }
    }
}

/// A server's state, and why, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateStatus {
    /// What it is to new connections.
    pub state: ServerState,
    /// Why it gets none, or would get none if there were a better one; a phrase for each reason.
    pub withheld: Vec<String>,
    /// How its weight came about, step by step; a phrase for each.
    pub weight: Vec<String>,
    /// Since when its checks tell nothing, so that it stays as it was: seconds since the Unix epoch.
    #[serde(default)]
    pub stale_since: Option<u64>,
}

impl StateStatus {
    /// That of a server, at so many seconds since the Unix epoch.
    #[must_use]
    pub fn of(server: &ServerView, now: u64) -> Self {
        let steps = server.weight_reasons.iter();
        // That is told already.
        let steps = steps.filter(|step| !matches!(step, WeightReason::Withheld { .. }));
        Self {
            state: ServerState::of(server),
            withheld: server.withheld.iter().map(|reason| reason.phrase().to_owned()).collect(),
            weight: steps.map(WeightReason::phrase).collect(),
            stale_since: server.stale_ms.map(|ms| now.saturating_sub(ms / 1_000)),
        }
    }
}
