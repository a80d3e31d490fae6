//! The words decisions are made of: newtypes that are legal by construction.

mod lsn;
mod mac;
mod name;
mod neighbour;
mod weight;

pub use lsn::{Lsn, ParseLsnError};
pub use mac::{Mac, ParseMacError};
pub use name::{NodeName, ParseNodeNameError};
pub use neighbour::Neighbour;
pub use weight::{ParseWeightError, Weight};

#[cfg(test)]
mod tests;
