//! ARP for the VIPs.

use std::net::Ipv4Addr;

use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::Active;
use pgha_tests::dataplane::{CLIENT_MAC, DIRECTOR_MAC, Family, arp_frame};
use pgha_tests::lab::READER_VIP;

use crate::harness::{Bench, ROLES, three};

/// ARP is of IPv4 alone; [`crate::neighbour`] is the same for IPv6.
fn ipv4() -> Bench {
    three(Family::Ipv4)
}

const VIP: Ipv4Addr = READER_VIP;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 31);
const NOBODY: [u8; 6] = [0; 6];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

fn who_has(address: Ipv4Addr) -> Vec<u8> {
    arp_frame(REQUEST, (CLIENT_MAC, CLIENT), (NOBODY, address))
}

/// The answer to a request of `asker`.
fn vip_is_here(asker: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let mut reply = arp_frame(REPLY, (DIRECTOR_MAC, VIP), asker);
    reply[..6].copy_from_slice(&asker.0);
    reply
}

#[test]
fn xdp_arp_for_a_vip_is_answered() {
    let mut bench = ipv4();
    let answered = bench.expect_frame(Reason::ArpAnswered, &who_has(VIP));
    assert_eq!(answered.frame, vip_is_here((CLIENT_MAC, CLIENT)));
    // A refresh of the neighbour table is sent to the one address (RFC 1122, section 2.3.2.1).
    let mut unicast = who_has(VIP);
    unicast[..6].copy_from_slice(&DIRECTOR_MAC);
    assert_eq!(
        bench.expect_frame(Reason::ArpAnswered, &unicast).frame,
        vip_is_here((CLIENT_MAC, CLIENT))
    );
}

#[test]
fn xdp_a_padded_arp_request_is_answered() {
    let mut bench = ipv4();
    let mut padded = who_has(VIP);
    padded.resize(60, 0);
    let answered = bench.expect_frame(Reason::ArpAnswered, &padded);
    let mut expected = vip_is_here((CLIENT_MAC, CLIENT));
    expected.resize(60, 0);
    assert_eq!(answered.frame, expected);
}

#[test]
fn xdp_an_arp_probe_for_a_vip_is_answered() {
    let mut bench = ipv4();
    // RFC 5227, section 2.1.1: the sender has no address yet.
    let probe = arp_frame(REQUEST, (CLIENT_MAC, Ipv4Addr::UNSPECIFIED), (NOBODY, VIP));
    let answered = bench.expect_frame(Reason::ArpAnswered, &probe);
    assert_eq!(answered.frame, vip_is_here((CLIENT_MAC, Ipv4Addr::UNSPECIFIED)));
}

#[test]
fn xdp_arp_for_a_vip_is_left_to_the_active_director() {
    let mut bench = ipv4();
    for (active, answered) in ROLES {
        bench.director.active = active;
        bench.apply();
        let reason = if answered { Reason::ArpAnswered } else { Reason::ArpInactive };
        bench.expect_frame(reason, &who_has(VIP));
    }
}

#[test]
fn xdp_other_arp_passes() {
    let mut bench = ipv4();
    let vip = VIP;
    let looks_like_it = Ipv4Addr::new(10, 99, 99, 100);
    for frame in [
        who_has(Ipv4Addr::new(10, 77, 0, 21)),
        who_has(looks_like_it),
        arp_frame(REQUEST, (CLIENT_MAC, looks_like_it), (NOBODY, looks_like_it)),
        // A reply to us, and one of ours seen again.
        arp_frame(REPLY, (CLIENT_MAC, CLIENT), (DIRECTOR_MAC, vip)),
        arp_frame(REPLY, (DIRECTOR_MAC, vip), (CLIENT_MAC, CLIENT)),
        // An operation that is neither.
        arp_frame(3, (CLIENT_MAC, CLIENT), (NOBODY, vip)),
    ] {
        bench.expect_frame(Reason::ArpOther, &frame);
    }
    // Not IPv4 over Ethernet.
    for at in 14..20 {
        let mut frame = who_has(vip);
        frame[at] ^= 0x40;
        bench.expect_frame(Reason::ArpOther, &frame);
    }
    let whole = who_has(vip);
    for length in 14..whole.len() {
        bench.expect_frame(Reason::Runt, &whole[..length]);
    }
}

#[test]
fn xdp_another_hosts_claim_of_a_vip_is_counted_and_passed() {
    let vip = VIP;
    for active in [Active::ForGood, Active::No] {
        let mut bench = ipv4();
        bench.director.active = active;
        bench.apply();
        for operation in [REQUEST, REPLY] {
            // Gratuitous, as a request and as a reply; and any other use of the address as its own.
            let announced = arp_frame(operation, (CLIENT_MAC, vip), (NOBODY, vip));
            bench.expect_frame(Reason::ArpClaim, &announced);
            let used = arp_frame(operation, (CLIENT_MAC, vip), (NOBODY, CLIENT));
            bench.expect_frame(Reason::ArpClaim, &used);
        }
    }
}

#[test]
fn xdp_our_own_announcement_is_neither_claim_nor_question() {
    let mut bench = ipv4();
    let vip = VIP;
    let announced = arp_frame(REQUEST, (DIRECTOR_MAC, vip), (NOBODY, vip));
    bench.expect_frame(Reason::ArpOther, &announced);
}
