use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Weight;

/// The share of new connections a real server has now, relative to the others: a [`Weight`], or a part of
/// one, in thousandths. A server of weight 1 that is to begin slowly has 0.1.
///
/// Either 0, or at least [`EffectiveWeight::LEAST`] and at most 1,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectiveWeight(u32);

const UNIT: u32 = 1_000;

impl EffectiveWeight {
    /// No new connections.
    pub const ZERO: Self = Self(0);
    /// The least above 0: a tenth.
    pub const LEAST: Self = Self(UNIT / 10);
    /// As [`Weight::ONE`].
    pub const ONE: Self = Self(UNIT);
    /// As [`Weight::MAX`].
    pub const MAX: Self = Self(UNIT * Weight::MAX.get() as u32);

    /// A whole number; `None` above [`Weight::MAX`].
    #[must_use]
    pub const fn new(whole: u16) -> Option<Self> {
        match Weight::new(whole) {
            Some(weight) => Some(Self(UNIT * weight.get() as u32)),
            None => None,
        }
    }

    /// So many thousandths, brought within the bounds: 0 stays 0.
    #[must_use]
    pub fn from_thousandths(thousandths: u32) -> Self {
        if thousandths == 0 {
            return Self::ZERO;
        }
        Self(thousandths.clamp(Self::LEAST.0, Self::MAX.0))
    }

    /// The number of thousandths, 0 to 1,000,000.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// `thousandths` of this weight; 0 only of 0.
    #[must_use]
    pub fn part(self, thousandths: u32) -> Self {
        if self == Self::ZERO {
            return self;
        }
        let part = u64::from(self.0) * u64::from(thousandths) / u64::from(UNIT);
        Self::from_thousandths(u32::try_from(part).unwrap_or(u32::MAX).max(1))
    }
}

impl From<Weight> for EffectiveWeight {
    fn from(weight: Weight) -> Self {
        Self(UNIT * u32::from(weight.get()))
    }
}

impl PartialEq<Weight> for EffectiveWeight {
    fn eq(&self, weight: &Weight) -> bool {
        *self == Self::from(*weight)
    }
}

/// A decimal number without needless zeros: `3`, `0.25`.
impl fmt::Display for EffectiveWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / UNIT, self.0 % UNIT);
        if rest == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{rest:03}").trim_end_matches('0'))
    }
}

/// A JSON number: whole where it is whole.
impl Serialize for EffectiveWeight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(UNIT) {
            serializer.serialize_u32(self.0 / UNIT)
        } else {
            serializer.serialize_f64(f64::from(self.0) / f64::from(UNIT))
        }
    }
}

impl<'de> Deserialize<'de> for EffectiveWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        let thousandths = (number * f64::from(UNIT)).round();
        if (0.0..=f64::from(Self::MAX.0)).contains(&thousandths) {
            // Within the bounds of a u32, and whole.
            return Ok(Self::from_thousandths(thousandths as u32));
        }
        Err(serde::de::Error::custom(format!("{number} is not a weight (a number from 0 to 1000)")))
    }
}
