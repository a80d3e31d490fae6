use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use pgha_machine::table::Entry;
use pgha_machine::{EffectiveWeight, Weight};
use proptest::prelude::*;

use super::{Built, same, tables};

/// Servers with these weights, the first with that id.
fn entries(weights: &[u16], id: u16) -> Vec<Entry> {
    let entry = |(number, weight): (u16, &u16)| Entry {
        id: id + number,
        address: IpAddr::V4(Ipv4Addr::from(0x0a4d_0065 + u32::from(number))),
        weight: Weight::new(*weight).map_or(EffectiveWeight::ZERO, EffectiveWeight::from),
    };
    (0..).zip(weights).map(entry).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two services whose servers change, sometimes to the same and sometimes not.
    #[test]
    fn tables_that_were_kept_are_those_that_would_be_built(
        changes in prop::collection::vec(
            (0..2u16, prop::sample::select(vec![
                vec![], vec![0, 0], vec![1, 2, 0], vec![1, 2, 4], vec![3; 20],
            ]), prop::sample::select(vec![1u16, 7, 2_000])),
            1..6,
        ),
    ) {
        let mut built = Built::default();
        for (service, weights, id) in changes {
            let entries = entries(&weights, id);
            let anew = Arc::from(tables(&entries));
            prop_assert!(same(&built.tables(service, entries), &anew));
        }
    }
}

#[test]
fn services_that_end_are_forgotten() {
    let mut built = Built::default();
    let kept = built.tables(0, entries(&[1, 2], 1));
    built.tables(1, entries(&[3], 9));
    built.retain(&BTreeSet::from([0]));
    assert_eq!(built.0.keys().collect::<Vec<_>>(), [&0]);
    assert!(Arc::ptr_eq(&kept, &built.tables(0, entries(&[1, 2], 1))));
}
