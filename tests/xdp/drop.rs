//! What no client sends to a VIP ends here, each with its reason, and is not remembered.

use std::net::SocketAddrV4;

use pgha_common::verdict::Reason;
use pgha_tests::dataplane::{Segment, VIP};

use crate::harness::{Bench, from, three};

/// Asserts that a known and an unknown client's frame is dropped, and enters no table.
#[track_caller]
fn dropped(bench: &mut Bench, reason: Reason, frame: &[u8]) {
    let (pending, established) = (bench.pending().len(), bench.established().len());
    bench.expect_frame(reason, frame);
    assert_eq!((bench.pending().len(), bench.established().len()), (pending, established));
}

/// [`dropped`], for a segment made so by `change`.
#[track_caller]
fn dropped_with(reason: Reason, segment: fn(u32) -> Segment, change: fn(&mut Segment)) {
    let mut bench = three();
    bench.establish(1);
    for number in [1, 2] {
        dropped(&mut bench, reason, &segment(number).with(change).frame());
    }
}

#[test]
fn xdp_fragments_to_a_vip_are_dropped() {
    dropped_with(
        Reason::Fragment,
        |number| from(number).ack(3).data(100),
        |segment| {
            segment.ipv4.dont_fragment = false;
            segment.ipv4.more_fragments = true;
        },
    );
    dropped_with(
        Reason::Fragment,
        |number| from(number).ack(3).data(100),
        |segment| segment.ipv4.fragment_offset = 1.try_into().unwrap(),
    );
    dropped_with(
        Reason::Fragment,
        |number| from(number).syn(),
        |segment| segment.ipv4.fragment_offset = 8191.try_into().unwrap(),
    );
}

#[test]
fn xdp_expired_packets_to_a_vip_are_dropped() {
    dropped_with(Reason::TtlExpired, |n| from(n).syn(), |segment| segment.ipv4.time_to_live = 0);
    dropped_with(Reason::TtlExpired, |n| from(n).ack(3), |segment| segment.ipv4.time_to_live = 1);
    let mut bench = three();
    bench.expect(Reason::NewFlow, &from(1).syn().with(|segment| segment.ipv4.time_to_live = 2));
}

#[test]
fn xdp_impossible_flags_are_dropped() {
    dropped_with(Reason::NoFlags, from, |_| {});
    dropped_with(Reason::SynFin, |n| from(n).syn().fin(), |_| {});
    dropped_with(Reason::SynFin, |n| from(n).syn().fin().ack(3), |_| {});
    dropped_with(Reason::SynFin, |n| from(n).syn().rst(), |_| {});
    dropped_with(Reason::SynAck, |n| from(n).syn().ack(3), |_| {});
    dropped_with(
        Reason::AllFlags,
        |n| from(n).syn().ack(3).fin().rst(),
        |segment| (segment.tcp.psh, segment.tcp.urg) = (true, true),
    );
    dropped_with(Reason::NoFlags, from, |segment| segment.tcp.ece = true);
}

#[test]
fn xdp_packets_from_a_vip_are_dropped() {
    let mut bench = three();
    let land = Segment::new(SocketAddrV4::new(*VIP.ip(), 40_000), VIP).syn();
    dropped(&mut bench, Reason::FromVip, &land.frame());
    dropped(&mut bench, Reason::FromVip, &Segment::new(VIP, VIP).syn().frame());
    // Another VIP is no client either; a client whose address only ends like one is.
    let other = SocketAddrV4::new([10, 77, 1, 7].into(), 5432);
    let like_a_vip = SocketAddrV4::new([10, 77, 9, 7].into(), 40_000);
    let mut second = bench.plan.services[0].clone();
    (second.index, second.vip) = (1, *other.ip());
    second.reals.clear();
    bench.plan.services.push(second);
    bench.apply();
    dropped(&mut bench, Reason::FromVip, &Segment::new(other, VIP).syn().frame());
    bench.expect(Reason::NewFlow, &Segment::new(like_a_vip, VIP).syn());
}

#[test]
fn xdp_bad_ip_headers_are_dropped() {
    let mut bench = three();
    let syn = from(1).syn().frame();
    for first in (0..=u8::MAX).filter(|first| !(0x45..=0x4f).contains(first)) {
        let mut frame = syn.clone();
        frame[14] = first;
        dropped(&mut bench, Reason::BadIpHeader, &frame);
    }
}

#[test]
fn xdp_lengths_that_contradict_the_frame_are_dropped() {
    let mut bench = three();
    let data = from(1).ack(3).data(10).frame();
    let claims = |length: u16| {
        let mut frame = data.clone();
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame
    };
    for length in [51, 64, 1500, u16::MAX, 0, 1, 19] {
        dropped(&mut bench, Reason::Truncated, &claims(length));
    }
    for length in 20..40 {
        dropped(&mut bench, Reason::BadTcpHeader, &claims(length));
    }
    for end in 34..data.len() {
        dropped(&mut bench, Reason::Truncated, &data[..end]);
    }
}

#[test]
fn xdp_tcp_headers_cut_short_are_dropped() {
    let mut bench = three();
    let syn = from(1).syn().frame();
    // The IP length agrees with the frame, and the TCP header does not fit into it.
    for end in 34..54 {
        let mut frame = syn[..end].to_vec();
        let length = u16::try_from(end - 14).unwrap();
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        dropped(&mut bench, Reason::BadTcpHeader, &frame);
    }
    // IP options up to the end of the frame.
    for ihl in 6..=10 {
        let mut frame = syn.clone();
        frame[14] = 0x40 | ihl;
        dropped(&mut bench, Reason::BadTcpHeader, &frame);
    }
    for ihl in 11..=15 {
        let mut frame = syn.clone();
        frame[14] = 0x40 | ihl;
        dropped(&mut bench, Reason::Truncated, &frame);
    }
}

#[test]
fn xdp_tcp_data_offsets_that_cannot_be_are_dropped() {
    let mut bench = three();
    let data = from(1).ack(3).data(8).frame();
    for offset in (0..16u8).filter(|offset| !(5..=7).contains(offset)) {
        let mut frame = data.clone();
        frame[46] = offset << 4;
        dropped(&mut bench, Reason::BadTcpHeader, &frame);
    }
}
