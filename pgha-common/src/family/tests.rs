use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{Address, Family, HOPS, V4, V6};
use crate::checksum::{finish, word};

fn is_correct(header: &[u8]) -> bool {
    finish(header.chunks(2).map(|pair| word([pair[0], pair[1]])).sum()) == [0, 0]
}

proptest! {
    #[test]
    fn an_ipv4_header_has_a_correct_checksum_there_and_back(
        source: [u8; 4],
        destination: [u8; 4],
        protocol: u8,
        length in 0..1480u16,
        ttl: u8,
    ) {
        let mut header = V4::header(source, destination, protocol, length);
        prop_assert!(is_correct(header.as_bytes()));
        header.checksum = crate::checksum::updated(
            header.checksum, [header.ttl, protocol], [ttl, protocol]);
        header.ttl = ttl;
        V4::turn(&mut header);
        prop_assert!(is_correct(header.as_bytes()));
        prop_assert_eq!((header.source, header.destination, header.ttl), (destination, source, HOPS));
    }

    #[test]
    fn ipv6_turns_too(source: [u8; 16], destination: [u8; 16]) {
        let mut header = V6::header(source, destination, 6, 20);
        header.hop_limit = 3;
        V6::turn(&mut header);
        prop_assert_eq!(header, V6::header(destination, source, 6, 20));
    }

    #[test]
    fn the_words_of_an_address_are_its_sum(address: [u8; 16]) {
        let words: u32 = address.chunks(2).map(|pair| word([pair[0], pair[1]])).sum();
        prop_assert_eq!(Address::sum(address), words);
    }

    #[test]
    fn each_byte_of_an_address_reaches_its_hash(address: [u8; 16], byte in 0..16usize) {
        let mut other = address;
        other[byte] ^= 1;
        prop_assert_ne!(Address::hash(address), Address::hash(other));
        prop_assert_ne!(address.hash_with(address), address.hash_with(other));
        prop_assert_ne!(address.hash_with(address), other.hash_with(address));
    }
}
