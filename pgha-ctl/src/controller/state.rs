//! A real server in one word, for who looks at many of them.

#[cfg(test)]
mod tests;

use pgha_machine::EffectiveWeight;
use pgha_machine::balancer::{ServerRole, ServerView, Standing, WeightReason};
use serde::{Deserialize, Serialize};

/// What a real server is to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It gets them.
    Up,
    /// An operator drains it, or its weight is 0: it gets none, and keeps those it has.
    Draining,
    /// It is well and gets none, for a reason that is shown.
    Withheld,
    /// It has not passed enough checks yet.
    Checking,
    /// It fails its checks.
    Down,
    /// It is the primary, which is no reader as long as there are others.
    Primary,
}

impl ServerState {
    /// That of a server: who serves is up, whatever else is to be said of it; a primary that does not is well,
    /// and who is down is just that, also while it is drained.
    #[must_use]
    pub fn of(server: &ServerView) -> Self {
        if server.effective_weight > EffectiveWeight::ZERO {
            return Self::Up;
        }
        match server.health {
            _ if server.role == ServerRole::Primary => Self::Primary,
            Standing::Down => Self::Down,
            _ if server.drained.is_some() || server.weight.get() == 0 => Self::Draining,
            Standing::Checking => Self::Checking,
            Standing::Up => Self::Withheld,
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
}

impl StateStatus {
    /// That of a server.
    #[must_use]
    pub fn of(server: &ServerView) -> Self {
        let steps = server.weight_reasons.iter();
        // That is told already.
        let steps = steps.filter(|step| !matches!(step, WeightReason::Withheld { .. }));
        Self {
            state: ServerState::of(server),
            withheld: server.withheld.iter().map(|reason| reason.phrase().to_owned()).collect(),
            weight: steps.map(WeightReason::phrase).collect(),
        }
    }
}
