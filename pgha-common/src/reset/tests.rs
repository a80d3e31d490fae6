use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::{Reset, answer, probe, unprompted};
use crate::checksum::{finish, word};
use crate::family::{Address, Family, V4, V6};
use crate::flow::{Flow, RealRef, Segment};
use crate::maps::FlowKey;
use crate::wire::{Ipv4, PROTOCOL_TCP, Tcp, flag};

const KEY: FlowKey<[u8; 4]> =
    FlowKey { client: [10, 0, 0, 31], vip: [10, 0, 0, 100], ports: [1, 2, 3, 4] };
const REAL: RealRef = RealRef { id: 1, generation: 0 };

fn segment(tcp: Tcp, data_length: u32) -> Segment {
    Segment::read(&tcp, data_length).unwrap()
}

fn syn(sequence: u32) -> Segment {
    segment(Tcp { flags: flag::SYN, sequence: sequence.to_be_bytes(), ..Tcp::new_zeroed() }, 0)
}

fn ack(acknowledgement: u32) -> Segment {
    let acknowledgement = acknowledgement.to_be_bytes();
    segment(Tcp { flags: flag::ACK, acknowledgement, ..Tcp::new_zeroed() }, 0)
}

#[test]
fn a_syn_is_answered_by_a_reset_that_acknowledges_it() {
    let reset: Reset<Ipv4> = answer::<V4>(&KEY, syn(99));
    assert_eq!(reset.tcp.flags, flag::RST | flag::ACK);
    assert_eq!(reset.tcp.sequence, [0; 4]);
    assert_eq!(reset.tcp.acknowledgement, 100u32.to_be_bytes());
    assert_eq!(reset.tcp.ports, [3, 4, 1, 2]);
    assert_eq!((reset.ip.source, reset.ip.destination), (KEY.vip, KEY.client));
}

#[test]
fn an_acknowledging_segment_is_answered_at_the_sequence_it_expects() {
    let reset = answer::<V4>(&KEY, ack(0x0102_0304));
    assert_eq!((reset.tcp.flags, reset.tcp.sequence), (flag::RST, [1, 2, 3, 4]));
}

#[test]
fn who_waits_is_told_at_its_last_acknowledgement() {
    let flow = Flow::new(REAL, syn(99)).after(ack(500)).after(ack(700));
    let reset = unprompted::<V4>(&KEY, flow);
    assert_eq!((reset.tcp.flags, reset.tcp.sequence), (flag::RST, 700u32.to_be_bytes()));
}

#[test]
fn who_waits_for_its_connection_is_told_by_what_acknowledges_its_syn() {
    let reset = unprompted::<V4>(&KEY, Flow::new(REAL, syn(u32::MAX)));
    assert_eq!(reset.tcp.flags, flag::RST | flag::ACK);
    assert_eq!((reset.tcp.sequence, reset.tcp.acknowledgement), ([0; 4], [0; 4]));
}

#[test]
fn who_acknowledged_something_is_asked_one_before_it() {
    let flow = Flow::new(REAL, syn(99));
    assert_eq!(probe::<V4>(&KEY, flow), None);
    let asked = probe::<V4>(&KEY, flow.after(ack(0))).unwrap();
    assert_eq!((asked.tcp.flags, asked.tcp.sequence), (flag::ACK, u32::MAX.to_be_bytes()));
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| word([pair[0], pair[1]])).sum()
}

fn is_correct<F: Family>(key: &FlowKey<F::Address>, segment: Segment) -> bool {
    let reset = answer::<F>(key, segment);
    let pseudo = key.vip.sum() + key.client.sum() + u32::from(PROTOCOL_TCP) + 20;
    finish(pseudo + sum(reset.tcp.as_bytes())) == [0, 0]
}

proptest! {
    #[test]
    fn checksums_are_correct(
        client: [u8; 16],
        vip: [u8; 16],
        ports: [u8; 4],
        sequence: [u8; 4],
        acknowledgement: [u8; 4],
        flags in prop::sample::select(&[flag::SYN, flag::ACK, flag::ACK | flag::FIN, flag::PSH]),
        data_length in 0..1460u32,
    ) {
        let tcp = Tcp { flags, sequence, acknowledgement, ..Tcp::new_zeroed() };
        let segment = segment(tcp, data_length);
        let six = FlowKey { client, vip, ports };
        let short = |address: [u8; 16]| *address.first_chunk().unwrap();
        let four = FlowKey { client: short(client), vip: short(vip), ports };
        prop_assert!(is_correct::<V6>(&six, segment));
        prop_assert!(is_correct::<V4>(&four, segment));
    }
}
