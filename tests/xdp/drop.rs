//! What no client sends to a VIP ends here, each with its reason, and is not remembered. What is wrong
//! with IP headers is in [`crate::headers`].

use std::net::{IpAddr, SocketAddr};

use pgha_common::verdict::Reason;
use pgha_tests::dataplane::{FAMILIES, Family, Segment, mac};

use crate::harness::{PEER_MAC, peer, three};

/// Asserts that the segment is dropped, of a known client and of an unknown one.
#[track_caller]
fn dropped(reason: Reason, segment: impl Fn(Family, u32) -> Segment) {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        for number in [1, 2] {
            bench.dropped(reason, &segment(family, number).frame());
        }
    }
}

#[test]
fn xdp_impossible_flags_are_dropped() {
    dropped(Reason::NoFlags, Family::segment);
    dropped(Reason::SynFin, |family, n| family.segment(n).syn().fin());
    dropped(Reason::SynFin, |family, n| family.segment(n).syn().fin().ack(3));
    dropped(Reason::SynFin, |family, n| family.segment(n).syn().rst());
    dropped(Reason::SynAck, |family, n| family.segment(n).syn().ack(3));
    dropped(Reason::AllFlags, |family, n| {
        let most = family.segment(n).syn().ack(3).fin().rst();
        most.with(|segment| (segment.tcp.psh, segment.tcp.urg) = (true, true))
    });
    dropped(Reason::NoFlags, |family, n| family.segment(n).with(|segment| segment.tcp.ece = true));
}

#[test]
fn xdp_packets_from_a_vip_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        let vip = family.vip();
        let from = |address: IpAddr, port| Segment::new(SocketAddr::new(address, port), vip).syn();
        bench.dropped(Reason::FromVip, &from(vip.ip(), 40_000).frame());
        bench.dropped(Reason::FromVip, &Segment::new(vip, vip).syn().frame());
        // Another VIP is no client either; a client whose address only ends like one is.
        let other: IpAddr =
            family.pick([10, 77, 1, 7].into(), [0xfd77, 0, 0, 0, 0, 0, 1, 7].into());
        let alike: IpAddr =
            family.pick([10, 77, 9, 7].into(), [0xfd77, 0, 0, 0, 0, 0, 9, 7].into());
        let mut second = bench.plan.services[0].clone();
        (second.index, second.vip) = (1, other);
        second.reals.clear();
        bench.plan.services.push(second);
        bench.apply();
        bench.dropped(Reason::FromVip, &from(other, 5432).frame());
        bench.expect(Reason::NewFlow, &from(alike, 40_000));
        bench.expect(Reason::NewFlow, &from(family.looks_like_vip(), 40_000));
    }
}

/// From another director, too: nobody's address is not that director's own.
#[test]
fn xdp_packets_from_no_hosts_address_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.director.peers = FAMILIES.map(|family| (mac(PEER_MAC), peer(family))).into();
        bench.apply();
        let nobodies = family.pick(
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255"],
            ["::", "::1", "ff02::1", "ff05::1", "ffff::1"],
        );
        for nobody in nobodies {
            let client = SocketAddr::new(nobody.parse().unwrap(), 40_000);
            let syn = Segment::new(client, family.vip()).syn();
            bench.dropped(Reason::BadSource, &syn.frame());
            let from_peer = syn.with(|syn| syn.source = PEER_MAC);
            bench.expect(Reason::OtherDirector, &from_peer);
        }
    }
}

#[test]
fn xdp_tcp_headers_cut_short_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        let segment = family.segment(1).syn();
        let tcp = segment.payload();
        // The IP length agrees with the frame, and the TCP header does not fit into it.
        for end in 0..tcp.len() {
            let frame = segment.ip.frame(segment.destination, segment.source, &tcp[..end]);
            bench.dropped(Reason::BadTcpHeader, &frame);
            // Padding is none of it.
            let padded = [frame, vec![0; 60]].concat();
            bench.dropped(Reason::BadTcpHeader, &padded);
        }
    }
}

#[test]
fn xdp_tcp_data_offsets_that_cannot_be_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        let data = family.segment(1).ack(3).data(8).frame();
        for offset in (0..16u8).filter(|offset| !(5..=7).contains(offset)) {
            let mut frame = data.clone();
            frame[14 + family.header_length() + 12] = offset << 4;
            bench.dropped(Reason::BadTcpHeader, &frame);
        }
    }
}
