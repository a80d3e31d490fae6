//! What is not for a VIP's service goes to the kernel, untouched. The harness compares the bytes.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{EtherType, IpNumber};
use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_tests::dataplane::{
    CLIENT_MAC, DIRECTOR_MAC, Segment, VIP, arp_frame, client, ethernet, ipv4_frame, ipv4_header,
    mac, real, service,
};

use crate::harness::{Bench, flow, from, three};

/// The director's own address.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 21);
/// No VIP, but its last byte is that of one.
const LOOKS_LIKE_VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 99, 100);
/// Another director's MAC address and address.
const PEER: ([u8; 6], Ipv4Addr) = ([2, 0, 10, 77, 0, 22], Ipv4Addr::new(10, 77, 0, 22));

/// A packet of any protocol to `address`.
fn packet(address: Ipv4Addr, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let header = ipv4_header(*client(1).ip(), address, protocol);
    ipv4_frame(DIRECTOR_MAC, CLIENT_MAC, header, payload)
}

#[test]
fn xdp_other_ports_of_a_vip_pass() {
    let mut bench = three();
    for port in [0, 22, 5431, 5433, 0x3815, u16::MAX] {
        for segment in [
            Segment::new(client(1), SocketAddrV4::new(*VIP.ip(), port)).syn(),
            Segment::new(client(1), SocketAddrV4::new(*VIP.ip(), port)).ack(3).data(9),
        ] {
            bench.expect(Reason::NoService, &segment);
        }
    }
    assert!(bench.pending().is_empty());
}

#[test]
fn xdp_other_protocols_to_a_vip_pass() {
    let mut bench = three();
    let mut udp = vec![0x80, 0, 0x15, 0x38];
    udp.extend([0, 20, 0, 0]);
    udp.extend([7; 12]);
    bench.expect_frame(Reason::NotTcp, &packet(*VIP.ip(), IpNumber::UDP, &udp));
    for protocol in [2, 4, 41, 47, 50, 89, 132, 255] {
        bench.expect_frame(Reason::NotTcp, &packet(*VIP.ip(), IpNumber(protocol), &[0; 40]));
    }
}

#[test]
fn xdp_packets_to_the_host_pass_whatever_they_look_like() {
    let mut bench = three();
    for address in [HOST, LOOKS_LIKE_VIP, Ipv4Addr::new(224, 0, 0, 22), Ipv4Addr::BROADCAST] {
        let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        bench.expect_frame(Reason::NotVip, &packet(address, IpNumber::ICMP, &echo));
        let mut igmp = ipv4_header(*client(1).ip(), address, IpNumber::IGMP);
        // Router alert (RFC 2113).
        igmp.options = [0x94, 4, 0, 0].into();
        let report = [0x22, 0, 0xf9, 2, 0, 0, 0, 1, 4, 0, 0, 0, 0xe0, 0, 0, 0xfb];
        bench.expect_frame(Reason::NotVip, &ipv4_frame(DIRECTOR_MAC, CLIENT_MAC, igmp, &report));
        let mut fragment = ipv4_header(*client(1).ip(), address, IpNumber::TCP);
        fragment.dont_fragment = false;
        fragment.more_fragments = true;
        let first = ipv4_frame(DIRECTOR_MAC, CLIENT_MAC, fragment.clone(), &[0; 64]);
        bench.expect_frame(Reason::NotVip, &first);
        fragment.fragment_offset = 8.try_into().unwrap();
        bench.expect_frame(
            Reason::NotVip,
            &ipv4_frame(DIRECTOR_MAC, CLIENT_MAC, fragment, &[0; 64]),
        );
        // A tunnel whose inner packet is for the VIP.
        let inner = from(1).syn().frame();
        bench.expect_frame(Reason::NotVip, &packet(address, IpNumber::IPV4, &inner[14..]));
        let to_service = SocketAddrV4::new(address, VIP.port());
        for odd in [
            Segment::new(client(1), to_service).syn().fin(),
            Segment::new(client(1), to_service),
            Segment::new(client(1), to_service).syn().with(|segment| segment.ipv4.time_to_live = 1),
            Segment::new(client(1), to_service).syn().with(|segment| segment.source = PEER.0),
            Segment::new(client(1), to_service).syn(),
            Segment::new(SocketAddrV4::new(address, 9), to_service).syn(),
        ] {
            bench.expect(Reason::NotVip, &odd);
        }
        let mut broken = Segment::new(client(1), to_service).syn().frame();
        broken[14] = 0x63;
        bench.expect_frame(Reason::NotVip, &broken);
    }
    assert!(bench.pending().is_empty());
}

#[test]
fn xdp_runts_pass() {
    let mut bench = three();
    let syn = from(1).syn().frame();
    for length in 14..34 {
        bench.expect_frame(Reason::Runt, &syn[..length]);
    }
}

#[test]
fn xdp_frames_of_other_kinds_pass() {
    let mut bench = three();
    let syn = from(1).syn().frame();
    let tag = |kind: [u8; 2]| [&syn[..12], &kind, &[0, 7], &syn[12..]].concat();
    let tagged = tag([0x81, 0]);
    bench.expect_frame(Reason::NotIpv4, &tagged);
    bench.expect_frame(Reason::NotIpv4, &tag([0x88, 0xa8]));
    bench.expect_frame(Reason::NotIpv4, &[&tagged[..12], &[0x81, 0, 0, 9], &tagged[12..]].concat());
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    ipv6.extend([0xfd; 32]);
    ipv6.extend(&syn[34..]);
    let ipv6 = ethernet(DIRECTOR_MAC, CLIENT_MAC, EtherType::IPV6.0, &ipv6);
    bench.expect_frame(Reason::NotIpv4, &ipv6);
    // IEEE 802.3 with a length instead of a type, LLDP, a type nobody has.
    for kind in [46, 0x88cc, 0xffff] {
        bench.expect_frame(
            Reason::NotIpv4,
            &ethernet([1, 0x80, 0xc2, 0, 0, 0], PEER.0, kind, &[0; 46]),
        );
    }
}

#[test]
fn xdp_frames_for_another_mac_pass() {
    let mut bench = three();
    for destination in [PEER.0, [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0; 6]] {
        let astray = from(1).syn().with(|segment| segment.destination = destination);
        bench.expect(Reason::NotOurMac, &astray);
    }
    assert!(bench.pending().is_empty());
}

#[test]
fn xdp_what_another_director_balanced_passes() {
    let mut bench = three();
    let by_peer = |number| from(number).syn().with(|segment| segment.source = PEER.0);
    bench.expect(Reason::NewFlow, &by_peer(1));
    bench.director.peers = [(mac(PEER.0), PEER.1)].into();
    bench.apply();
    bench.expect(Reason::OtherDirector, &by_peer(2));
    bench.expect(Reason::OtherDirector, &by_peer(1));
    // A client on that director's own node.
    let own = Segment::new(SocketAddrV4::new(PEER.1, 40_000), VIP).syn();
    bench.expect(Reason::NewFlow, &own.with(|segment| segment.source = PEER.0));
    // Its address alone says nothing: it can come through a router.
    bench.expect(Reason::SynAgain, &Segment::new(SocketAddrV4::new(PEER.1, 40_000), VIP).syn());
    assert_eq!(bench.pending().get(&flow(2)), None);
    bench.director.peers.clear();
    bench.apply();
    bench.expect(Reason::NewFlow, &by_peer(2));
}

#[test]
fn xdp_the_local_server_gets_its_frames_untouched() {
    let mut bench = three();
    for id in 1..=3 {
        bench.change(id, |real| (real.local, real.mac) = (true, None));
    }
    bench.expect(Reason::LocalServer, &from(1).syn());
    bench.expect(Reason::LocalServer, &from(1).ack(2001));
    bench.expect(Reason::LocalServer, &from(1).ack(2100));
    let local = bench.established().get(&flow(1)).unwrap().real().id;
    assert_eq!(bench.data_plane().traffic(local).unwrap().packets, 3);
    bench.kill(local);
    bench.expect(Reason::DeadServer, &from(1).ack(2100));
}

#[test]
fn xdp_nothing_is_steered_before_the_maps_are_written() {
    let mut bench = Bench::unwritten(1024, 1024, [service(Scheduler::Maglev, [real(1)])]);
    let to_nowhere = from(1).syn().with(|segment| segment.destination = [0; 6]);
    for segment in [from(1).syn(), from(1).ack(3), from(1), to_nowhere] {
        bench.expect(Reason::NotVip, &segment);
    }
    bench.expect_frame(
        Reason::ArpOther,
        &arp_frame(1, (CLIENT_MAC, *client(1).ip()), ([0; 6], *VIP.ip())),
    );
    bench.apply();
    bench.expect(Reason::NewFlow, &from(1).syn());
}

#[test]
fn xdp_another_mac_of_the_interface_is_followed() {
    let mut bench = three();
    let new = [2, 0, 10, 77, 0, 99];
    bench.director.mac = mac(new);
    bench.apply();
    bench.expect(Reason::NotOurMac, &from(1).syn());
    // The harness sees that it is sent from the new one.
    bench.expect(Reason::NewFlow, &from(1).syn().with(|segment| segment.destination = new));
}
