//! Neighbour discovery for the VIPs (RFC 4861): what [`crate::arp`] is for IPv4.

use std::net::Ipv6Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::Active;
use pgha_tests::dataplane::frame::{
    TAG, advertisement, flag, group_mac, kind, option, solicitation, unicast_solicitation,
};
use pgha_tests::dataplane::{CLIENT_MAC, DIRECTOR_MAC, Family, Icmp, assert_checksums, tagged};
use pgha_tests::lab::READER_VIP6;

use crate::harness::{Bench, ROLES, three};

const VIP: Ipv6Addr = READER_VIP6;
const CLIENT: ([u8; 6], Ipv6Addr) = (CLIENT_MAC, Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x31));
const NOBODY: ([u8; 6], Ipv6Addr) = (CLIENT_MAC, Ipv6Addr::UNSPECIFIED);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// No VIP, but in the same solicited-node group.
const LOOKS_LIKE_VIP: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0x7700, 0x100);
/// Length of an advertisement with one option in an untagged frame.
const ADVERTISEMENT: usize = 14 + 72;

fn ipv6() -> Bench {
    three(Family::Ipv6)
}

/// Asserts that `answer` tells `asker` that the VIP is at the director.
#[track_caller]
fn assert_advertised(answer: &[u8], asker: ([u8; 6], Ipv6Addr), flags: u8) {
    assert_checksums(answer);
    assert_eq!(answer[..12], [asker.0, DIRECTOR_MAC].concat());
    let packet = SlicedPacket::from_ethernet(answer).unwrap();
    assert_eq!(answer.len(), ADVERTISEMENT + 4 * packet.link_exts.len());
    let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
    let header = ip.header();
    assert_eq!((header.source_addr(), header.destination_addr()), (VIP, asker.1));
    assert_eq!(header.hop_limit(), 255);
    let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("no ICMPv6") };
    let message = icmp.slice();
    assert_eq!(message[..2], [kind::ADVERTISEMENT, 0]);
    assert_eq!(message[4..8], [flags, 0, 0, 0]);
    assert_eq!(message[8..24], VIP.octets());
    assert_eq!(message[24..], [&[option::TARGET, 1], DIRECTOR_MAC.as_slice()].concat());
}

/// Asserts that the solicitation is answered, and to whom.
#[track_caller]
fn answered(bench: &mut Bench, asked: &Icmp, asker: ([u8; 6], Ipv6Addr), flags: u8) {
    let answer = bench.expect_frame(Reason::NeighbourAnswered, &asked.frame());
    assert_advertised(&answer.frame, asker, flags);
}

#[test]
fn xdp_a_solicitation_for_a_vip_is_answered() {
    let mut bench = ipv6();
    let flags = flag::SOLICITED | flag::OVERRIDE;
    answered(&mut bench, &solicitation(CLIENT, VIP), CLIENT, flags);
    // Whether it is still there is asked of it alone, without an option (RFC 4861, section 4.3).
    answered(&mut bench, &unicast_solicitation(CLIENT, (DIRECTOR_MAC, VIP)), CLIENT, flags);
    // From a link-local address, as routers ask.
    let router = (CLIENT_MAC, "fe80::1".parse().unwrap());
    answered(&mut bench, &solicitation(router, VIP), router, flags);
}

#[test]
fn xdp_a_solicitation_with_more_options_is_answered() {
    let mut bench = ipv6();
    let asked = solicitation(CLIENT, VIP).with(|asked| {
        asked.body.extend([option::NONCE, 1, 1, 2, 3, 4, 5, 6]);
    });
    answered(&mut bench, &asked, CLIENT, flag::SOLICITED | flag::OVERRIDE);
}

#[test]
fn xdp_duplicate_address_detection_of_a_vip_is_answered_to_all() {
    let mut bench = ipv6();
    let all = (group_mac(ALL_NODES), ALL_NODES);
    answered(&mut bench, &solicitation(NOBODY, VIP), all, flag::OVERRIDE);
    // With a nonce, as Linux asks (RFC 7527).
    let asked = solicitation(NOBODY, VIP).with(|asked| {
        asked.body.extend([option::NONCE, 1, 9, 8, 7, 6, 5, 4]);
    });
    answered(&mut bench, &asked, all, flag::OVERRIDE);
}

#[test]
fn xdp_a_tagged_solicitation_is_answered_with_its_tag() {
    let mut bench = ipv6();
    bench.director.forward_tagged = true;
    bench.apply();
    for asked in [solicitation(CLIENT, VIP), unicast_solicitation(CLIENT, (DIRECTOR_MAC, VIP))] {
        let answer = bench.expect_frame(Reason::NeighbourAnswered, &tagged(&asked.frame(), TAG, 7));
        assert_advertised(&answer.frame, CLIENT, flag::SOLICITED | flag::OVERRIDE);
        assert_eq!(answer.frame[12..16], [0x81, 0, 0, 7]);
    }
}

#[test]
fn xdp_solicitations_for_a_vip_are_left_to_the_active_director() {
    let mut bench = ipv6();
    for (active, answered) in ROLES {
        bench.director.active = active;
        bench.apply();
        let reason = if answered { Reason::NeighbourAnswered } else { Reason::NeighbourInactive };
        for asked in [solicitation(CLIENT, VIP), solicitation(NOBODY, VIP)] {
            bench.expect_frame(reason, &asked.frame());
        }
    }
}

#[test]
fn xdp_other_neighbour_discovery_passes() {
    let mut bench = ipv6();
    for target in ["fd77::21".parse().unwrap(), LOOKS_LIKE_VIP, ALL_NODES] {
        bench.expect_frame(Reason::NeighbourOther, &solicitation(CLIENT, target).frame());
        bench.expect_frame(Reason::NeighbourOther, &solicitation(NOBODY, target).frame());
        let told = advertisement(CLIENT, target, flag::OVERRIDE);
        bench.expect_frame(Reason::NeighbourOther, &told.frame());
    }
}

/// It came through a router, and nobody there may ask or tell (RFC 4861, section 7.1).
#[test]
fn xdp_neighbour_discovery_from_elsewhere_passes() {
    let mut bench = ipv6();
    for hops in [254, 64, 1, 0] {
        for message in [
            solicitation(CLIENT, VIP),
            unicast_solicitation(CLIENT, (DIRECTOR_MAC, VIP)),
            advertisement(CLIENT, VIP, flag::OVERRIDE),
        ] {
            let routed = message.with(|message| message.ip.set_hops(hops));
            bench.expect_frame(Reason::NeighbourOther, &routed.frame());
        }
    }
}

#[test]
fn xdp_another_hosts_claim_of_an_ipv6_vip_is_counted_and_passed() {
    for active in [Active::ForGood, Active::No] {
        let mut bench = ipv6();
        bench.director.active = active;
        bench.apply();
        for flags in [0, flag::OVERRIDE, flag::SOLICITED | flag::OVERRIDE] {
            for sender in [CLIENT, (CLIENT_MAC, VIP)] {
                let claimed = advertisement(sender, VIP, flags);
                bench.expect_frame(Reason::NeighbourClaim, &claimed.frame());
            }
        }
        // Any other use of the address as its own.
        let used = solicitation((CLIENT_MAC, VIP), CLIENT.1);
        bench.expect_frame(Reason::NeighbourClaim, &used.frame());
    }
}

/// What this director announced comes back where a network has a loop.
#[test]
fn xdp_our_own_neighbour_discovery_is_neither_claim_nor_question() {
    let mut bench = ipv6();
    let own = (DIRECTOR_MAC, VIP);
    for message in [
        advertisement(own, VIP, flag::OVERRIDE),
        solicitation(own, VIP),
        solicitation((DIRECTOR_MAC, Ipv6Addr::UNSPECIFIED), VIP),
    ] {
        bench.expect_frame(Reason::NeighbourOther, &message.frame());
    }
}

#[test]
fn xdp_neighbour_discovery_cut_short_is_not_answered() {
    let mut bench = ipv6();
    let asked = solicitation(NOBODY, VIP);
    let message = asked.message();
    for length in 0..message.len() {
        let frame = asked.ip.frame(asked.destination, asked.source, &message[..length]);
        assert_ne!(bench.send(&frame).reason, Reason::NeighbourAnswered, "{length}");
    }
    let whole = asked.frame();
    for length in 14..whole.len() {
        let outcome = bench.send(&whole[..length]);
        assert_ne!(outcome.reason, Reason::NeighbourAnswered, "{length}");
    }
}

/// What a receiver discards silently (RFC 4861, section 7.1) is no question, and no claim.
#[test]
fn xdp_malformed_neighbour_discovery_passes() {
    let mut bench = ipv6();
    let messages = [
        solicitation(CLIENT, VIP),
        solicitation(NOBODY, VIP),
        unicast_solicitation(CLIENT, (DIRECTOR_MAC, VIP)),
        advertisement(CLIENT, VIP, flag::OVERRIDE),
    ];
    for message in messages {
        let frame = message.frame();
        // IP version, ICMPv6 code and checksum, target.
        for (at, with) in [(14, 0x40), (55, 1), (56, frame[56] ^ 1), (77, frame[77] ^ 1)] {
            let mut broken = frame.clone();
            broken[at] = with;
            bench.expect_frame(Reason::NeighbourOther, &broken);
        }
    }
    let elsewhere = "fd77::31".parse().unwrap();
    let asked = solicitation(CLIENT, VIP).with(|asked| asked.ip.set_destination(elsewhere));
    bench.expect_frame(Reason::NeighbourOther, &asked.frame());
}

#[test]
fn xdp_a_solicitation_for_another_mac_passes() {
    let mut bench = ipv6();
    let elsewhere = [2, 0, 10, 77, 0, 22];
    let asked = unicast_solicitation(CLIENT, (elsewhere, VIP));
    bench.expect_frame(Reason::NotOurMac, &asked.frame());
}
