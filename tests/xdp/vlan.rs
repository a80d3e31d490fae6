//! Frames with 802.1Q tags: balanced with their one tag kept, or left to the kernel, as configured.

use etherparse::EtherType;
use pgha_common::verdict::{Action, Reason};
use pgha_tests::dataplane::frame::{ErrorKind, SERVICE_TAG, TAG};
use pgha_tests::dataplane::{
    CLIENT_MAC, DIRECTOR_MAC, FAMILIES, Family, Icmp, Segment, arp_frame, ethernet, tagged,
};
use pgha_tests::lab::READER_VIP;

use crate::harness::{Bench, PEER_MAC, named, three};

/// VLAN 7; a priority and no VLAN (IEEE 802.1Q, "priority-tagged"); all bits.
const CONTROLS: [u16; 3] = [7, 0xa000, 0xffff];

/// Three servers behind a director that forwards tagged frames.
fn forwarding(family: Family) -> Bench {
    let mut bench = three(family);
    bench.director.forward_tagged = true;
    bench.apply();
    bench
}

fn with_tag(segment: &Segment, control: u16) -> Vec<u8> {
    tagged(&segment.frame(), TAG, control)
}

#[test]
fn xdp_tagged_segments_are_forwarded_with_their_tag() {
    for family in FAMILIES {
        let mut bench = forwarding(family);
        let named = named(&bench.plan.services[0], 0..30);
        for (number, id) in (0..30).zip(named) {
            let control = CONTROLS[number as usize % CONTROLS.len()];
            let from = || family.segment(number);
            for (reason, segment) in [
                (Reason::NewFlow, from().syn()),
                (Reason::PendingFlow, from().ack(2001)),
                (Reason::EstablishedFlow, from().ack(2100).data(1400)),
            ] {
                // The harness compares the tag with all else.
                let outcome = bench.expect_frame(reason, &with_tag(&segment, control));
                assert_eq!(outcome.real(), id);
            }
            // The tag is no part of the flow.
            assert_eq!(bench.expect(Reason::EstablishedFlow, &from().ack(2200)).real(), id);
        }
    }
}

#[test]
fn xdp_tagged_frames_are_left_to_the_kernel_by_default() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        for control in CONTROLS {
            for segment in [family.segment(1).ack(2100), family.segment(2).syn()] {
                bench.expect_frame(Reason::Tagged, &with_tag(&segment, control));
            }
            let echo = Icmp::echo_request(family.client(1).ip(), family.vip().ip(), 8).frame();
            bench.expect_frame(Reason::Tagged, &tagged(&echo, TAG, control));
        }
        assert!(bench.pending().is_empty());
    }
}

#[test]
fn xdp_the_tag_setting_can_be_changed() {
    for family in FAMILIES {
        let mut bench = three(family);
        for forward in [true, false, true] {
            bench.director.forward_tagged = forward;
            bench.apply();
            let reason = if forward { Reason::UnknownReset } else { Reason::Tagged };
            bench.expect_frame(reason, &with_tag(&family.segment(1).rst(), 7));
        }
    }
}

#[test]
fn xdp_frames_with_two_tags_pass() {
    for family in FAMILIES {
        for forward in [false, true] {
            let mut bench = three(family);
            bench.director.forward_tagged = forward;
            bench.apply();
            let syn = family.segment(1).syn().frame();
            for outer in [TAG, SERVICE_TAG] {
                let twice = tagged(&tagged(&syn, TAG, 7), outer, 9);
                for frame in [tagged(&twice, TAG, 1), twice] {
                    let outcome = bench.send(&frame);
                    assert_eq!(outcome.reason.action(), Action::Pass);
                    // Who leaves all tags to the kernel does not count them.
                    assert!(!forward || outer != TAG || outcome.reason == Reason::TwoTags);
                }
            }
            // A provider's tag alone is not the one that is configured.
            let outcome = bench.send(&tagged(&syn, SERVICE_TAG, 9));
            assert_eq!(outcome.reason.action(), Action::Pass);
            assert!(bench.pending().is_empty());
        }
    }
}

#[test]
fn xdp_tagged_frames_for_others_pass() {
    for family in FAMILIES {
        let mut bench = forwarding(family);
        let syn = family.segment(1).syn();
        let elsewhere = syn.clone().with(|syn| syn.ip.set_destination(family.host()));
        bench.expect_frame(Reason::NotVip, &with_tag(&elsewhere, 7));
        let like_it = syn.clone().with(|syn| syn.ip.set_destination(family.looks_like_vip()));
        bench.expect_frame(Reason::NotVip, &with_tag(&like_it, 7));
        let astray = syn.clone().with(|syn| syn.destination = PEER_MAC);
        bench.expect_frame(Reason::NotOurMac, &with_tag(&astray, 7));
        let other = ethernet(DIRECTOR_MAC, CLIENT_MAC, 0x88cc, &[0; 60]);
        bench.expect_frame(Reason::NotIp, &tagged(&other, TAG, 7));
        for length in 14..18 + family.header_length() {
            bench.expect_frame(Reason::Runt, &with_tag(&syn, 7)[..length]);
        }
    }
}

#[test]
fn xdp_bad_tagged_segments_are_dropped() {
    for family in FAMILIES {
        let mut bench = forwarding(family);
        let syn = family.segment(1).syn();
        for (reason, bad) in [
            (Reason::SynFin, syn.clone().fin()),
            (Reason::TtlExpired, syn.clone().with(|syn| syn.ip.set_hops(1))),
            (Reason::Fragment, syn.clone().data(64).with(|syn| syn.ip.set_fragment(0, true))),
        ] {
            bench.dropped(reason, &with_tag(&bad, 7));
        }
        let whole = with_tag(&syn, 7);
        for length in 18 + family.header_length()..whole.len() {
            bench.dropped(Reason::Truncated, &whole[..length]);
        }
    }
}

/// The harness compares tags, addresses and numbers of an answer with those of the question.
#[test]
fn xdp_answers_keep_the_tag() {
    for family in FAMILIES {
        let mut bench = forwarding(family);
        bench.establish(1);
        for id in 1..=3 {
            bench.kill(id);
        }
        for control in CONTROLS {
            for (reason, segment) in [
                (Reason::DeadServer, family.segment(1).ack(2100)),
                (Reason::DeadServer, family.segment(1).ack(2100).data(900)),
                (Reason::NoServer, family.segment(2).syn()),
            ] {
                let answer = bench.expect_frame(reason, &with_tag(&segment, control));
                assert_eq!(answer.frame.len(), family.headers() + 4);
            }
            for length in [0, 57] {
                let client = family.client(1).ip();
                let echo = Icmp::echo_request(client, family.vip().ip(), length).frame();
                bench.expect_frame(Reason::EchoAnswered, &tagged(&echo, TAG, control));
            }
        }
    }
}

#[test]
fn xdp_tagged_arp_for_a_vip_is_answered_with_its_tag() {
    let mut bench = forwarding(Family::Ipv4);
    let client = (CLIENT_MAC, [10, 77, 0, 31].into());
    let asked = arp_frame(1, client, ([0; 6], READER_VIP));
    let mut reply = arp_frame(2, (DIRECTOR_MAC, READER_VIP), client);
    reply[..6].copy_from_slice(&CLIENT_MAC);
    for control in CONTROLS {
        let answer = bench.expect_frame(Reason::ArpAnswered, &tagged(&asked, TAG, control));
        assert_eq!(answer.frame, tagged(&reply, TAG, control));
    }
    bench.director.forward_tagged = false;
    bench.apply();
    bench.expect_frame(Reason::Tagged, &tagged(&asked, TAG, 7));
}

#[test]
fn xdp_a_tagged_icmp_error_reaches_the_flow_it_quotes() {
    for family in FAMILIES {
        let mut bench = forwarding(family);
        let real = bench.establish(1);
        let quoted = Segment::new(family.vip(), family.client(1)).ack(1).packet();
        let error =
            Icmp::error(ErrorKind::TooBig(1400), family.client(9).ip(), family.vip().ip(), &quoted);
        let frame = tagged(&error.frame(), TAG, 7);
        assert_eq!(bench.expect_frame(Reason::IcmpError, &frame).real(), real);
    }
}

/// A tag and then nothing, or what is no EtherType at all.
#[test]
fn xdp_tags_without_a_packet_pass() {
    let mut bench = forwarding(Family::Ipv4);
    for ethertype in [EtherType::IPV4, EtherType::IPV6, EtherType::ARP, EtherType(46)] {
        let bare = tagged(&ethernet(DIRECTOR_MAC, CLIENT_MAC, ethertype.0, &[]), TAG, 7);
        for length in 14..=bare.len() {
            assert_eq!(bench.send(&bare[..length]).reason.action(), Action::Pass);
        }
    }
}
