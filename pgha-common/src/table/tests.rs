use proptest::prelude::*;

use super::{SLOTS, again, hash, place, slot};
use crate::maps::FlowKey;

#[test]
fn slots_are_hit_evenly_by_neighbouring_clients() {
    const BUCKETS: usize = 64;
    let mut hits = [0u32; BUCKETS];
    for host in 0..64u8 {
        for port in 0..1024u16 {
            let [high, low] = (32_768 + port).to_be_bytes();
            let key = FlowKey {
                client: [10, 0, 0, host],
                vip: [10, 0, 0, 100],
                ports: [high, low, 0x15, 0x38],
            };
            hits[slot(hash(&key)) * BUCKETS / SLOTS] += 1;
        }
    }
    // 65,536 flows in 64 buckets: 1,024 each, standard deviation 32; six of them are 192.
    for count in hits {
        assert!((832..=1216).contains(&count), "{hits:?}");
    }
}

proptest! {
    #[test]
    fn slot_stays_in_the_table(hash: u64) {
        prop_assert!(slot(hash) < SLOTS);
    }

    #[test]
    fn one_bit_of_the_key_moves_the_hash(client: [u8; 4], ports: [u8; 4], bit in 0..64usize) {
        let key = FlowKey { client, vip: [10, 0, 0, 100], ports };
        let mut other = key;
        let byte = if bit < 32 { &mut other.client[bit / 8] } else { &mut other.ports[bit / 8 - 4] };
        *byte ^= 1 << (bit % 8);
        prop_assert_ne!(hash(&key), hash(&other));
    }

    #[test]
    fn a_second_choice_has_nothing_to_do_with_the_first(hash: u64) {
        prop_assert_ne!(again(hash), hash);
    }

    #[test]
    fn the_ring_is_walked_in_order(cursor in 0..u64::MAX - 1, length in 1..4096u16) {
        let here = place(cursor, length).unwrap();
        let next = place(cursor + 1, length).unwrap();
        prop_assert_eq!(next, (here + 1) % usize::from(length));
    }
}
