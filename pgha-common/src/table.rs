//! Looking up a real server: the hash of a flow, its slot, the next place of the ring.

use crate::family::{Address, mix};
use crate::maps::FlowKey;

/// Slots of a Maglev table: a prime, so that every permutation by steps visits all of them
/// (Eisenbud et al., "Maglev", NSDI 2016, section 3.4).
pub const SLOTS: usize = 65_537;

/// Slots of a round robin ring: the finest share it can give is 1 of these.
pub const RING_SLOTS: usize = 4096;

/// A hash of the connection, the same on every director.
///
/// Rounds of multiply and fold: each bit of the key reaches each bit of the upper half, which [`slot`]
/// uses.
#[must_use]
#[inline(always)]
pub fn hash<A: Address>(key: &FlowKey<A>) -> u64 {
    mix(key.client.hash_with(key.vip) ^ u64::from(u32::from_be_bytes(key.ports)))
}

/// A hash of the client's address alone: all connections of a client have the same.
#[must_use]
#[inline(always)]
pub fn hash_client<A: Address>(key: &FlowKey<A>) -> u64 {
    key.client.hash()
}

/// Another hash, which says nothing of the first: for a second choice.
#[must_use]
#[inline(always)]
pub const fn again(hash: u64) -> u64 {
    mix(hash ^ 0xd6e8_feb8_6659_fd93)
}

/// The slot of a hash, 0 to [`SLOTS`] - 1, evenly.
#[must_use]
#[inline(always)]
pub const fn slot(hash: u64) -> usize {
    (((hash >> 32) * SLOTS as u64) >> 32) as usize
}

/// The place of the ring that a cursor stands at; `None` in an empty ring.
#[must_use]
#[inline(always)]
pub const fn place(cursor: u64, ring_length: u16) -> Option<usize> {
    if ring_length == 0 { None } else { Some((cursor % ring_length as u64) as usize) }
}

#[cfg(test)]
mod tests;
