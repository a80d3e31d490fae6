use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{ALL_NODES, Discovery, HOP_LIMIT, UNSPECIFIED, advertise};
use crate::checksum::{finish, word};
use crate::family::{Family, V6};
use crate::wire::PROTOCOL_ICMPV6;

proptest! {
    #[test]
    fn who_asks_is_answered_with_a_correct_checksum(target: [u8; 16], mac: [u8; 6], asker: [u8; 16]) {
        let answer = advertise(target, mac, asker);
        let message = &answer.as_bytes()[40..];
        let words: u32 = message.chunks(2).map(|pair| word([pair[0], pair[1]])).sum();
        let pseudo = V6::pseudo_header(target, answer.ip.destination, PROTOCOL_ICMPV6, 32);
        prop_assert_eq!(finish(pseudo + words), [0, 0]);
        prop_assert_eq!(answer.ip.hop_limit, HOP_LIMIT);
        prop_assert_eq!((answer.ip.source, answer.link.mac), (target, mac));
    }
}

#[test]
fn who_has_no_address_is_answered_before_all_nodes() {
    let answer = advertise([1; 16], [2; 6], UNSPECIFIED);
    assert_eq!(answer.ip.destination, ALL_NODES);
    assert_eq!(answer.discovery.icmp.rest[0], Discovery::OVERRIDE);
    let answer = advertise([1; 16], [2; 6], [3; 16]);
    assert_eq!(answer.ip.destination, [3; 16]);
    assert_eq!(answer.discovery.icmp.rest[0], Discovery::OVERRIDE | Discovery::SOLICITED);
}
