//! The look-up tables of a virtual service, built from its real servers and their weights.
//!
//! They depend on nothing else, so that every director builds the same: that is why a flow survives
//! a change of director.

mod maglev;
mod quality;
mod ring;

use std::net::IpAddr;

use crate::EffectiveWeight;

pub use maglev::maglev;
pub use quality::{excess_remap, share_error};
pub use ring::ring;

/// A real server as a table needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What its slots will say: its id on this director.
    pub id: u16,
    /// Who it is on every director: decides which slots it prefers.
    pub address: IpAddr,
    /// Its share. Entries of weight 0 get no slot.
    pub weight: EffectiveWeight,
}

/// The entries that get slots, in an order that every director has.
fn in_service(entries: &[Entry]) -> Vec<Entry> {
    let mut entries: Vec<_> =
        entries.iter().copied().filter(|entry| entry.weight > EffectiveWeight::ZERO).collect();
    entries.sort_unstable_by_key(|entry| entry.address);
    entries
}

#[cfg(test)]
mod tests;
