use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pgha_common::table::{RING_SLOTS, SLOTS};
use proptest::prelude::*;

use super::quality::counts;
use super::{Entry, excess_remap, maglev, ring, share_error};
use crate::EffectiveWeight;

fn entry(host: u8, weight: u16) -> Entry {
    Entry {
        id: u16::from(host) + 1,
        address: Ipv4Addr::new(10, 0, 0, host).into(),
        weight: EffectiveWeight::new(weight).unwrap(),
    }
}

/// Directors of different versions agree on the flows of one that is gone.
#[test]
fn a_table_of_ipv4_servers_is_the_same_in_every_version() {
    let servers: Vec<_> = (1..=16).map(|host| entry(host * 13, u16::from(host))).collect();
    let mixed = maglev(&servers)
        .iter()
        .fold(0u64, |sum, id| sum.wrapping_mul(0x0000_0100_0000_01b3).wrapping_add(u64::from(*id)));
    assert_eq!(mixed, 5_811_129_105_406_136_203);
}

#[test]
fn no_server_leaves_every_slot_empty() {
    assert!(maglev(&[]).iter().all(|id| *id == 0));
    assert!(maglev(&[entry(1, 0)]).iter().all(|id| *id == 0));
    assert!(ring(&[entry(1, 0)]).is_empty());
}

/// Every kind of change of one server: gone (or, the other way round, added), another weight.
fn changes(full: &[Entry]) -> impl Iterator<Item = Vec<Entry>> {
    (0..full.len()).flat_map(|changed| {
        let old = full[changed].weight.thousandths();
        let mut sets: Vec<_> =
            [0, old - 1_000, old + 1_000, old.div_ceil(2), old * 2, 20_000, 1_000_000]
                .into_iter()
                .map(|weight| {
                    let mut entries = full.to_vec();
                    entries[changed].weight = EffectiveWeight::from_thousandths(weight);
                    entries
                })
                .collect();
        sets.retain(|set| set.iter().any(|entry| entry.weight > EffectiveWeight::ZERO));
        sets
    })
}

/// Checks all single changes of sets that `address` makes; prints how many slots too many moved.
fn moves_few_slots_too_many(what: &str, most: f64, address: impl Fn(u32, u32) -> IpAddr) {
    let mut excesses = Vec::new();
    for (set, count) in (0..).zip([2, 3, 5, 9, 16, 16, 16]) {
        let highest = [1, 5, 20, 1000][set as usize % 4];
        let full: Vec<_> = (0..count)
            .map(|n| Entry {
                id: n as u16 + 1,
                address: address(set, n),
                weight: EffectiveWeight::new((n * 7919 % highest) as u16 + 1).unwrap(),
            })
            .collect();
        let before = maglev(&full);
        excesses.extend(changes(&full).map(|changed| {
            let after = maglev(&changed);
            let error = share_error(&changed, &after);
            assert!(error <= 0.01, "share error {error}: {changed:?}");
            excess_remap(&before, &after)
        }));
    }
    let mean = excesses.iter().sum::<f64>() / excesses.len() as f64;
    let worst = excesses.iter().copied().fold(0.0, f64::max);
    println!(
        "excess remap of {} changes, {what}: mean {:.3} %, most {:.3} %",
        excesses.len(),
        mean * 100.0,
        worst * 100.0
    );
    assert!(worst <= most, "largest excess {worst}");
}

#[test]
fn one_change_among_up_to_16_servers_moves_few_slots_too_many() {
    moves_few_slots_too_many("consecutive addresses", 0.0015, |set, n| {
        Ipv4Addr::from(0x0a00_0000 + set * 1021 % 240 + n).into()
    });
    moves_few_slots_too_many("one /24", 0.002, |set, n| {
        Ipv4Addr::from(0xc0a8_0000 + (set * 77 + n * (set * 10 + 3)) % 256).into()
    });
    moves_few_slots_too_many("networks of their own", 0.003, |set, n| {
        Ipv4Addr::from((set * 100 + n + 1).wrapping_mul(0x9e37_79b1)).into()
    });
    moves_few_slots_too_many("consecutive IPv6 addresses", 0.002, |set, n| {
        Ipv6Addr::from((0xfd00 << 112) + u128::from(set * 1021 % 240 + n)).into()
    });
    moves_few_slots_too_many("IPv6 networks of their own", 0.003, |set, n| {
        Ipv6Addr::from(((0x2001_0db8_0000 + u128::from(set * 100 + n)) << 80) + 1).into()
    });
    moves_few_slots_too_many("interface identifiers", 0.003, |set, n| {
        let identifier = u64::from(set * 100 + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ipv6Addr::from((0xfd00 << 112) + u128::from(identifier)).into()
    });
    moves_few_slots_too_many("both families", 0.003, |set, n| {
        let host = set * 1021 % 240 + n;
        if n % 2 == 0 {
            Ipv4Addr::from(0x0a00_0000 + host).into()
        } else {
            Ipv6Addr::from((0xfd00 << 112) + u128::from(host)).into()
        }
    });
}

/// The steps of two servers of a /24 have no ratio of small numbers, by which they would often meet:
/// Zaremba's figure of merit of a lattice (Niederreiter, "Random Number Generation and Quasi-Monte
/// Carlo Methods", 1992, section 5.1).
#[test]
fn steps_of_near_addresses_have_no_simple_ratio() {
    let slots = SLOTS as u64;
    let mut ratio = 1;
    for distance in 1..256 {
        ratio = ratio * super::maglev::GENERATOR % slots;
        let merit = (1..slots)
            .map(|factor| {
                let product = factor * ratio % slots;
                factor.min(slots - factor) * product.min(slots - product)
            })
            .min();
        assert!(merit >= Some(90), "{distance}: {merit:?}");
    }
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
    fn shares_follow_the_weights_whatever_the_addresses(
        servers in prop::collection::btree_map(any::<IpAddr>(), 1..=1000u16, 1..=32),
    ) {
        let entries: Vec<_> = (1..)
            .zip(servers)
            .map(|(id, (address, weight))| Entry { id, address, weight: EffectiveWeight::new(weight).unwrap() })
            .collect();
        let error = share_error(&entries, &maglev(&entries));
        prop_assert!(error <= 0.01, "share error {}", error);
    }

    #[test]
    fn shares_follow_parts_of_weights(thousandths in prop::collection::vec(100..=20_000u32, 1..=32)) {
        let part = |(n, thousandths): (u8, &u32)| Entry {
            weight: EffectiveWeight::from_thousandths(*thousandths),
            ..entry(n, 1)
        };
        let entries: Vec<_> = (0..).zip(&thousandths).map(part).collect();
        let error = share_error(&entries, &maglev(&entries));
        prop_assert!(error <= 0.01, "share error {}", error);
        let ring = ring(&entries);
        prop_assert!((1..=RING_SLOTS).contains(&ring.len()));
        prop_assert!(entries.iter().all(|entry| ring.contains(&entry.id)), "one has no turn");
    }

    /// The least weight there is walks furthest: its times still fit.
    #[test]
    fn the_least_weight_alone_has_every_slot(host: u8) {
        let alone = Entry { weight: EffectiveWeight::LEAST, ..entry(host, 1) };
        prop_assert!(maglev(&[alone]).iter().all(|id| *id == alone.id));
    }

    #[test]
    fn maglev_shares_follow_the_weights(weights in prop::collection::vec(1..=1000u16, 1..=128)) {
        let entries: Vec<_> = (0u8..).zip(&weights).map(|(n, weight)| entry(n, *weight)).collect();
        let table = maglev(&entries);
        prop_assert_eq!(table.len(), SLOTS);
        let error = share_error(&entries, &table);
        prop_assert!(error <= 0.01, "share error {}", error);
    }

    #[test]
    fn tables_name_exactly_the_servers_with_a_weight(entries in servers()) {
        let mut wanted: Vec<_> =
            entries.iter().filter(|e| e.weight > EffectiveWeight::ZERO).map(|e| e.id).collect();
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
        let total: f64 = weights.iter().map(|weight| f64::from(*weight) * 1e3).sum();
        let counts = counts(&ring);
        for entry in &entries {
            let due = ring.len() as f64 * f64::from(entry.weight.thousandths()) / total;
            prop_assert!((counts[&entry.id] as f64 - due).abs() <= 2.0, "{counts:?}");
        }
    }
}
