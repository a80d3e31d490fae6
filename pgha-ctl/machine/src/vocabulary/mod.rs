//! The words decisions are made of: newtypes that are legal by construction.

mod effective;
mod lsn;
mod mac;
mod moment;
mod name;
mod neighbour;
mod timeline;
mod weight;

pub use effective::EffectiveWeight;
pub use lsn::{Lsn, ParseLsnError};
pub use mac::{Mac, ParseMacError};
pub use moment::Moment;
pub use name::{NodeName, ParseNodeNameError};
pub use neighbour::Neighbour;
pub use timeline::Timeline;
pub use weight::{ParseWeightError, Weight};

#[cfg(test)]
mod tests;
