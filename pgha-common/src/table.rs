//! Looking up a real server: the hash of a flow, its slot, the next place of the ring.

use crate::maps::FlowKey;

/// Slots of a Maglev table: a prime, so that every permutation by steps visits all of them
/// (Eisenbud et al., "Maglev", NSDI 2016, section 3.4).
pub const SLOTS: usize = 65_537;

/// Slots of a round robin ring: the finest share it can give is 1 of these.
pub const RING_SLOTS: usize = 4096;

/// A hash of the connection, the same on every director.
///
/// Two rounds of multiply and fold (the finalizer of MurmurHash3): each bit of the key reaches each
/// bit of the upper half, which [`slot`] uses.
#[must_use]
#[inline(always)]
pub const fn hash(key: &FlowKey) -> u64 {
    let [a, b, c, d] = key.client;
    let [e, f, g, h] = key.vip;
    let addresses = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let ports = u32::from_be_bytes(key.ports) as u64;
    mix(mix(addresses ^ 0x9e37_79b9_7f4a_7c15) ^ ports)
}

#[inline(always)]
const fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
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
