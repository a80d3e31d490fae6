use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use pgha_common::table::{RING_SLOTS, SLOTS};
use proptest::prelude::*;

use super::{Entry, maglev, ring};
use crate::Weight;

fn entry(host: u8, weight: u16) -> Entry {
    Entry {
        id: u16::from(host) + 1,
        address: Ipv4Addr::new(10, 0, 0, host),
        weight: Weight::new(weight).unwrap(),
    }
}

fn counts(slots: &[u16]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for id in slots {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

/// The largest relative difference between a server's slots and its share by weight.
fn share_error(entries: &[Entry], slots: &[u16]) -> f64 {
    let total: f64 = entries.iter().map(|entry| f64::from(entry.weight.get())).sum();
    let counts = counts(slots);
    entries
        .iter()
        .filter(|entry| entry.weight > Weight::ZERO)
        .map(|entry| {
            let due = slots.len() as f64 * f64::from(entry.weight.get()) / total;
            (counts.get(&entry.id).copied().unwrap_or(0) as f64 - due).abs() / due
        })
        .fold(0.0, f64::max)
}

/// How many slots changed beyond those that had to, as a part of all.
fn excess(before: &[u16], after: &[u16]) -> f64 {
    let moved = before.iter().zip(after).filter(|(a, b)| a != b).count();
    let (had, has) = (counts(before), counts(after));
    let due: usize =
        had.iter().map(|(id, count)| count.saturating_sub(has.get(id).copied().unwrap_or(0))).sum();
    (moved - due) as f64 / before.len() as f64
}

#[test]
fn no_server_leaves_every_slot_empty() {
    assert!(maglev(&[]).iter().all(|id| *id == 0));
    assert!(maglev(&[entry(1, 0)]).iter().all(|id| *id == 0));
    assert!(ring(&[entry(1, 0)]).is_empty());
}

#[test]
fn one_change_among_up_to_16_servers_moves_few_slots_too_many() {
    let mut excesses = Vec::new();
    for count in 2..=16u8 {
        for base in [0, 50, 100, 200] {
            let full: Vec<_> =
                (0..count).map(|n| entry(base + n, 1 + u16::from(n % 3) * 2)).collect();
            let before = maglev(&full);
            for gone in 0..full.len() {
                let mut fewer = full.clone();
                fewer.remove(gone);
                excesses.push(excess(&before, &maglev(&fewer)));
                let mut heavier = full.clone();
                heavier[gone].weight = Weight::new(heavier[gone].weight.get() + 1).unwrap();
                excesses.push(excess(&before, &maglev(&heavier)));
            }
        }
    }
    let mean = excesses.iter().sum::<f64>() / excesses.len() as f64;
    let most = excesses.iter().copied().fold(0.0, f64::max);
    println!(
        "excess remap of {} changes: mean {:.3} %, most {:.3} %",
        excesses.len(),
        mean * 100.0,
        most * 100.0
    );
    assert!(mean <= 0.003, "mean excess {mean}");
    assert!(most <= 0.006, "largest excess {most}");
}

#[test]
fn a_ring_spreads_the_turns_of_a_heavy_server() {
    assert_eq!(ring(&[entry(1, 1), entry(2, 1), entry(3, 1)]), [2, 3, 4]);
    assert_eq!(ring(&[entry(1, 2), entry(2, 1), entry(3, 1)]), [2, 3, 4, 2]);
    assert_eq!(ring(&[entry(1, 300), entry(2, 100)]), [2, 2, 3, 2]);
}

fn servers() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::btree_map(any::<u8>(), 0..=1000u16, 1..24)
        .prop_map(|servers| servers.into_iter().map(|(host, weight)| entry(host, weight)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn maglev_shares_follow_the_weights(weights in prop::collection::vec(1..=20u16, 1..32)) {
        let entries: Vec<_> = (0u8..).zip(&weights).map(|(n, weight)| entry(n, *weight)).collect();
        let table = maglev(&entries);
        prop_assert_eq!(table.len(), SLOTS);
        let error = share_error(&entries, &table);
        prop_assert!(error <= 0.01, "share error {}", error);
    }

    #[test]
    fn tables_name_exactly_the_servers_with_a_weight(entries in servers()) {
        let mut wanted: Vec<_> =
            entries.iter().filter(|e| e.weight > Weight::ZERO).map(|e| e.id).collect();
        wanted.sort_unstable();
        let maglev: Vec<_> = counts(&maglev(&entries)).into_keys().filter(|id| *id != 0).collect();
        prop_assert_eq!(&maglev, &wanted);
        let ring: Vec<_> = counts(&ring(&entries)).into_keys().collect();
        prop_assert_eq!(ring, wanted);
    }

    #[test]
    fn tables_do_not_depend_on_the_order_of_servers(mut entries in servers()) {
        let (table, turns) = (maglev(&entries), ring(&entries));
        entries.reverse();
        prop_assert_eq!(maglev(&entries), table);
        prop_assert_eq!(ring(&entries), turns);
    }

    #[test]
    fn rings_fit_and_follow_the_weights(weights in prop::collection::vec(1..=1000u16, 1..=128)) {
        let entries: Vec<_> = (0u8..).zip(&weights).map(|(n, weight)| entry(n, *weight)).collect();
        let ring = ring(&entries);
        prop_assert!((1..=RING_SLOTS).contains(&ring.len()));
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let counts = counts(&ring);
        for entry in &entries {
            let due = ring.len() as f64 * f64::from(entry.weight.get()) / total;
            prop_assert!((counts[&entry.id] as f64 - due).abs() <= 2.0, "{counts:?}");
        }
    }
}
