//! Why a server has the weight it has.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::member::Connections;
use super::withheld::Withheld;
use crate::{EffectiveWeight, Weight};

/// Who set something, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Who.
    pub by: String,
    /// When: seconds since the Unix epoch.
    pub at: u64,
}

impl Stamp {
    /// For what only the data plane's maps tell of, which keep neither.
    #[must_use]
    pub fn unknown() -> Self {
        Self { by: "unknown".to_owned(), at: 0 }
    }
}

/// One step from the weight that is written down to the weight in force. They are told in the order in
/// which they apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum WeightReason {
    /// The service's `default_weight`.
    Default {
        /// That weight.
        weight: Weight,
    },
    /// The node table's.
    Node {
        /// That weight.
        weight: Weight,
    },
    /// The one it was added as a reader with.
    Reader {
        /// That weight.
        weight: Weight,
        /// By whom, when.
        stamp: Stamp,
    },
    /// An operator's, in place of those.
    Set {
        /// That weight.
        weight: Weight,
        /// By whom, when.
        stamp: Stamp,
    },
    /// It begins slowly.
    SlowStart {
        /// What it has of its weight so far.
        percent: u8,
        /// For how long it goes on, in milliseconds.
        left_ms: u64,
    },
    /// Less, because it lags.
    Lag {
        /// What it has of its weight for that.
        percent: u8,
    },
    /// Less, because many of its connections are in use.
    Connections {
        /// How many.
        connections: Connections,
        /// What it has of its weight for that.
        percent: u8,
    },
    /// As it was: what has changed since is too little to move clients for.
    Steady {
        /// The weight it keeps.
        weight: EffectiveWeight,
    },
    /// It has a reason to get no new connections, but no server without one is left.
    Tolerated {
        /// That reason.
        of: Withheld,
    },
    /// It is the primary, and no standby is left.
    Fallback,
    /// No new connections.
    Withheld {
        /// For this reason.
        of: Withheld,
    },
}

impl WeightReason {
    /// A short phrase for people.
    #[must_use]
    pub fn phrase(&self) -> String {
        match self {
            Self::Default { weight } => format!("{weight} by default_weight of the service"),
            Self::Node { weight } => format!("{weight} in the node table"),
            Self::Reader { weight, stamp } => format!("{weight} as a reader added by {}", stamp.by),
            Self::Set { weight, stamp } => format!("{weight} set by {}", stamp.by),
            Self::SlowStart { percent, left_ms } => {
                // Seconds are enough for people; the last one is not 0 s.
                let left = Duration::from_millis(*left_ms).as_secs().max(1);
                format!("{percent} % while it starts slowly, {left} s to go")
            }
            Self::Lag { percent } => format!("{percent} % for its lag"),
            Self::Connections { connections: Connections { used, most }, percent } => {
                format!("{percent} % for {used} of {most} connections in use")
            }
            Self::Steady { weight } => format!("{weight}: small changes are not followed"),
            Self::Tolerated { of } => {
                format!("no better one is left; otherwise withheld: {}", of.phrase())
            }
            Self::Fallback => "the primary serves: no standby is left".to_owned(),
            Self::Withheld { of } => format!("0: {}", of.phrase()),
        }
    }
}
