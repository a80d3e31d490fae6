use pgha_common::table::RING_SLOTS;

use super::{Entry, in_service};

/// A weighted round robin sequence of ids, empty when no entry has a weight.
///
/// Smooth: a server of weight 2 among others of weight 1 gets its turns apart, not in a row. Weights
/// whose sum (over their greatest common divisor) exceeds [`RING_SLOTS`] are scaled down to it; every
/// server keeps one turn at least.
#[must_use]
pub fn ring(entries: &[Entry]) -> Vec<u16> {
    let entries = in_service(entries);
    let mut turns: Vec<(u16, i64, i64)> =
        entries.iter().zip(shares(&entries)).map(|(entry, share)| (entry.id, share, 0)).collect();
    let length: i64 = turns.iter().map(|(_, share, _)| share).sum();
    let mut ring = Vec::new();
    for _ in 0..length {
        for (_, share, credit) in &mut turns {
            *credit += *share;
        }
        // The first of those with the greatest credit, so that equal weights go in order.
        if let Some((id, _, credit)) = turns.iter_mut().rev().max_by_key(|(_, _, credit)| *credit) {
            *credit -= length;
            ring.push(*id);
        }
    }
    ring
}

fn shares(entries: &[Entry]) -> Vec<i64> {
    let weights = || entries.iter().map(|entry| i64::from(entry.weight.thousandths()));
    let divisor = weights().fold(0, greatest_common_divisor).max(1);
    let sum = weights().sum::<i64>() / divisor;
    let slots = RING_SLOTS as i64;
    weights()
        .map(|weight| weight / divisor)
        .map(|weight| if sum <= slots { weight } else { (weight * (slots - 128) / sum).max(1) })
        .collect()
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
