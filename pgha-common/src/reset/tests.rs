use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::{Received, ResetFrame, answer};
use crate::flow::Segment;
use crate::wire::{Ethernet, Ipv4, Tcp, flag};

fn reset(client: [u8; 4], ports: [u8; 4], tcp: Tcp, data_length: u32) -> ResetFrame {
    let ethernet = Ethernet { destination: [2; 6], source: [4; 6], ethertype: [8, 0] };
    let ipv4 = Ipv4 { source: client, destination: [10, 0, 0, 100], ..Ipv4::new_zeroed() };
    let segment = Segment::read(&tcp, data_length).unwrap();
    answer(&Received { ethernet: &ethernet, ipv4: &ipv4, ports, segment })
}

/// RFC 1071, from its definition: the sum of a correct header and its checksum is all ones.
fn ones_sum(bytes: &[u8]) -> u16 {
    let sum: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    u16::try_from(folded).unwrap()
}

#[test]
fn a_syn_is_answered_by_a_reset_that_acknowledges_it() {
    let syn = Tcp { flags: flag::SYN, sequence: 99u32.to_be_bytes(), ..Tcp::new_zeroed() };
    let frame = reset([10, 0, 0, 31], [1, 2, 3, 4], syn, 0);
    assert_eq!(frame.tcp.flags, flag::RST | flag::ACK);
    assert_eq!(frame.tcp.sequence, [0; 4]);
    assert_eq!(frame.tcp.acknowledgement, 100u32.to_be_bytes());
    assert_eq!(frame.tcp.ports, [3, 4, 1, 2]);
    assert_eq!((frame.ethernet.destination, frame.ethernet.source), ([4; 6], [2; 6]));
    assert_eq!((frame.ipv4.source, frame.ipv4.destination), ([10, 0, 0, 100], [10, 0, 0, 31]));
}

#[test]
fn an_acknowledging_segment_is_answered_at_the_sequence_it_expects() {
    let ack = Tcp { flags: flag::ACK, acknowledgement: [1, 2, 3, 4], ..Tcp::new_zeroed() };
    let frame = reset([10, 0, 0, 31], [1, 2, 3, 4], ack, 10);
    assert_eq!((frame.tcp.flags, frame.tcp.sequence), (flag::RST, [1, 2, 3, 4]));
}

proptest! {
    #[test]
    fn checksums_are_correct(
        client: [u8; 4],
        ports: [u8; 4],
        sequence: [u8; 4],
        acknowledgement: [u8; 4],
        flags in prop::sample::select(&[flag::SYN, flag::ACK, flag::ACK | flag::FIN, flag::PSH]),
        data_length in 0..1460u32,
    ) {
        let tcp = Tcp { flags, sequence, acknowledgement, ..Tcp::new_zeroed() };
        let frame = reset(client, ports, tcp, data_length);
        prop_assert_eq!(ones_sum(frame.ipv4.as_bytes()), 0xffff);
        let mut pseudo = Vec::new();
        pseudo.extend(frame.ipv4.source);
        pseudo.extend(frame.ipv4.destination);
        pseudo.extend([0, 6, 0, 20]);
        pseudo.extend(frame.tcp.as_bytes());
        prop_assert_eq!(ones_sum(&pseudo), 0xffff);
    }
}
