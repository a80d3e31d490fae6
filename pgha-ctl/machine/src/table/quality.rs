//! How good a table is: whether the shares are those of the weights, and whether a change moves more than it
//! must.

use std::collections::BTreeMap;

use super::Entry;
use crate::EffectiveWeight;

/// How many slots each id has.
pub(super) fn counts(slots: &[u16]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for id in slots {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

/// The largest relative difference between a server's slots and its share by weight. Less than one
/// slot is no difference.
#[must_use]
pub fn share_error(entries: &[Entry], slots: &[u16]) -> f64 {
    let total: f64 = entries.iter().map(|entry| f64::from(entry.weight.thousandths())).sum();
    let counts = counts(slots);
    entries
        .iter()
        .filter(|entry| entry.weight > EffectiveWeight::ZERO)
        .map(|entry| {
            let due = slots.len() as f64 * f64::from(entry.weight.thousandths()) / total;
            let off = (counts.get(&entry.id).copied().unwrap_or(0) as f64 - due).abs();
            if off < 1.0 { 0.0 } else { off / due }
        })
        .fold(0.0, f64::max)
}

/// How many slots changed beyond those that had to, as a part of all.
#[must_use]
pub fn excess_remap(before: &[u16], after: &[u16]) -> f64 {
    let moved = before.iter().zip(after).filter(|(a, b)| a != b).count();
    let (had, has) = (counts(before), counts(after));
    let due: usize =
        had.iter().map(|(id, count)| count.saturating_sub(has.get(id).copied().unwrap_or(0))).sum();
    (moved - due) as f64 / before.len() as f64
}
