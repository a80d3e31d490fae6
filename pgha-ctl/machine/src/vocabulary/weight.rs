use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The share of new connections a real server gets, relative to the others: 0 to 1,000.
///
/// 0 drains, as in LVS: established connections stay, new ones go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16")]
pub struct Weight(u16);

impl Weight {
    /// The weight that drains.
    pub const ZERO: Self = Self(0);
    /// The weight of a server nobody gave another.
    pub const ONE: Self = Self(1);
    /// The largest weight.
    pub const MAX: Self = Self(1000);

    /// `None` above [`Weight::MAX`].
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// The number, 0 to 1,000.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Weight {
    type Error = ParseWeightError;

    fn try_from(value: u16) -> Result<Self, Self::Error> {
        Self::new(value).ok_or_else(|| ParseWeightError(value.to_string()))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a weight (a whole number from 0 to 1000)")]
pub struct ParseWeightError(String);

impl FromStr for Weight {
    type Err = ParseWeightError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| ParseWeightError(text.to_owned()))
    }
}
