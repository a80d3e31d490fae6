//! The words decisions are made of: newtypes that are legal by construction.

mod effective;
mod epoch;
mod lsn;
mod mac;
mod mark;
mod moment;
mod name;
mod neighbour;
mod timeline;
mod wal;
mod weight;

pub use effective::EffectiveWeight;
pub use epoch::Epoch;
pub use lsn::{Lsn, ParseLsnError};
pub use mac::{Mac, ParseMacError};
pub use mark::Mark;
pub use moment::Moment;
pub use name::{NodeName, ParseNodeNameError};
pub use neighbour::Neighbour;
pub use timeline::Timeline;
pub use wal::{Position, Wal};
pub use weight::{ParseWeightError, Weight};

#[cfg(test)]
mod tests;
