//! What is not for a VIP's service goes to the kernel, untouched. The harness compares the bytes.

use std::net::SocketAddr;

use etherparse::IpNumber;
use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_tests::dataplane::frame::{Ip, SERVICE_TAG};
use pgha_tests::dataplane::{
    CLIENT_MAC, DIRECTOR_MAC, FAMILIES, Family, Icmp, Segment, arp_frame, ethernet, mac, real,
    service, tagged,
};

use crate::harness::{Bench, PEER_MAC, peer, three};

/// Packets of any protocol to `address`.
fn packet(family: Family, address: std::net::IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ip = Ip::new(family.client(1).ip(), address, IpNumber(protocol));
    ip.frame(DIRECTOR_MAC, CLIENT_MAC, payload)
}

/// Addresses that are none of ours: the director's own, one like a VIP, groups.
fn others(family: Family) -> Vec<std::net::IpAddr> {
    let groups = family.pick(["224.0.0.22", "255.255.255.255"], ["ff02::16", "ff02::1:ff00:21"]);
    let groups = groups.map(|group| group.parse().unwrap());
    [family.host(), family.looks_like_vip()].into_iter().chain(groups).collect()
}

#[test]
fn xdp_other_ports_of_a_vip_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        for port in [0, 22, 5431, 5433, 0x3815, u16::MAX] {
            let other = SocketAddr::new(family.vip().ip(), port);
            bench.expect(Reason::NoService, &Segment::new(family.client(1), other).syn());
            bench.expect(Reason::NoService, &Segment::new(family.client(1), other).ack(3).data(9));
        }
        assert!(bench.pending().is_empty());
    }
}

#[test]
fn xdp_other_protocols_to_a_vip_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        let vip = family.vip().ip();
        let mut udp = vec![0x80, 0, 0x15, 0x38];
        udp.extend([0, 20, 0, 0]);
        udp.extend([7; 12]);
        bench.expect_frame(Reason::NotTcp, &packet(family, vip, IpNumber::UDP.0, &udp));
        for protocol in [2, 4, 41, 47, 50, 89, 132, 253] {
            bench.expect_frame(Reason::NotTcp, &packet(family, vip, protocol, &[0; 40]));
        }
        // The other family's ICMP is none of this one.
        let foreign = family.pick(IpNumber::IPV6_ICMP, IpNumber::ICMP);
        bench.expect_frame(Reason::NotTcp, &packet(family, vip, foreign.0, &[8; 40]));
    }
}

#[test]
fn xdp_packets_to_the_host_pass_whatever_they_look_like() {
    for family in FAMILIES {
        let mut bench = three(family);
        let client = family.client(1);
        for address in others(family) {
            bench.expect_frame(
                Reason::NotVip,
                &Icmp::echo_request(client.ip(), address, 56).frame(),
            );
            // A tunnel whose inner packet is for the VIP.
            let inner = family.segment(1).syn().packet();
            let tunnel = family.pick(IpNumber::IPV4, IpNumber::IPV6);
            bench.expect_frame(Reason::NotVip, &packet(family, address, tunnel.0, &inner));
            let to = SocketAddr::new(address, family.vip().port());
            let syn = || Segment::new(client, to).syn();
            for odd in [
                syn(),
                syn().fin(),
                Segment::new(client, to),
                syn().with(|segment| segment.ip.set_hops(1)),
                syn().with(|segment| segment.source = PEER_MAC),
                syn().data(64).with(|segment| segment.ip.set_fragment(0, true)),
                syn().data(64).with(|segment| segment.ip.set_fragment(8, true)),
                Segment::new(SocketAddr::new(address, 9), to).syn(),
                Segment::new(SocketAddr::new(family.vip().ip(), 9), to).syn(),
            ] {
                bench.expect(Reason::NotVip, &odd);
            }
            let mut broken = syn().frame();
            broken[14] = 0x33;
            bench.expect_frame(Reason::NotVip, &broken);
        }
        assert!(bench.pending().is_empty());
    }
}

#[test]
fn xdp_group_management_with_router_alert_passes() {
    let mut bench = three(Family::Ipv4);
    for address in others(Family::Ipv4) {
        let mut igmp = Ip::new(Family::Ipv4.client(1).ip(), address, IpNumber::IGMP);
        // Router alert (RFC 2113).
        igmp.ipv4_mut().options = [0x94, 4, 0, 0].into();
        let report = [0x22, 0, 0xf9, 2, 0, 0, 0, 1, 4, 0, 0, 0, 0xe0, 0, 0, 0xfb];
        bench.expect_frame(Reason::NotVip, &igmp.frame(DIRECTOR_MAC, CLIENT_MAC, &report));
    }
    // Multicast listener report (RFC 3810), behind a router alert too.
    let mut bench = three(Family::Ipv6);
    let report = Icmp::new(Family::Ipv6.client(1).ip(), "ff02::16".parse().unwrap(), 143);
    let report = report.with(|report| {
        report.ip.set_options(8);
        report.body = vec![4, 0, 0, 0];
    });
    bench.expect_frame(Reason::NotVip, &report.frame());
}

#[test]
fn xdp_frames_of_other_kinds_pass() {
    let mut bench = three(Family::Ipv4);
    // IEEE 802.3 with a length instead of a type, LLDP, a type nobody has.
    for kind in [46, 0x88cc, 0xffff] {
        let frame = ethernet([1, 0x80, 0xc2, 0, 0, 0], PEER_MAC, kind, &[0; 46]);
        bench.expect_frame(Reason::NotIp, &frame);
        // However long their tags are, they are not ours.
        bench.send(&tagged(&frame, SERVICE_TAG, 7));
    }
}

#[test]
fn xdp_frames_for_another_mac_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        for destination in [PEER_MAC, [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
            let astray = family.segment(1).syn().with(|syn| syn.destination = destination);
            bench.expect(Reason::NotOurMac, &astray);
        }
        assert!(bench.pending().is_empty());
    }
}

#[test]
fn xdp_what_another_director_balanced_passes() {
    for family in FAMILIES {
        let mut bench = three(family);
        let by_peer = |number| family.segment(number).syn().with(|syn| syn.source = PEER_MAC);
        let own = Segment::new(SocketAddr::new(peer(family), 40_000), family.vip()).syn();
        bench.expect(Reason::NewFlow, &by_peer(1));
        // It has addresses of both families.
        bench.director.peers = FAMILIES.map(|family| (mac(PEER_MAC), peer(family))).into();
        bench.apply();
        bench.expect(Reason::OtherDirector, &by_peer(2));
        bench.expect(Reason::OtherDirector, &by_peer(1));
        // A client on that director's own node.
        bench.expect(Reason::NewFlow, &own.clone().with(|segment| segment.source = PEER_MAC));
        // That director's probe of this very node: it may go no further, so that it is never balanced.
        let last_hop = own.clone().with(|segment| segment.ip.set_hops(1));
        bench.expect(
            Reason::OtherDirector,
            &last_hop.clone().with(|segment| segment.source = PEER_MAC),
        );
        bench.expect(Reason::TtlExpired, &last_hop);
        // Its address alone says nothing: it can come through a router.
        bench.expect(Reason::SynAgain, &own);
        assert_eq!(bench.pending().get(&family.key(2)), None);
        bench.director.peers.clear();
        bench.apply();
        bench.expect(Reason::NewFlow, &by_peer(2));
    }
}

#[test]
fn xdp_the_local_server_gets_its_frames_untouched() {
    for family in FAMILIES {
        let mut bench = three(family);
        for id in 1..=3 {
            bench.change(id, |real| (real.local, real.neighbour) = (true, None));
        }
        bench.expect(Reason::LocalServer, &family.segment(1).syn());
        bench.expect(Reason::LocalServer, &family.segment(1).ack(2001));
        bench.expect(Reason::LocalServer, &family.segment(1).ack(2100));
        let local = bench.established().get(&family.key(1)).unwrap().real().id;
        assert_eq!(bench.data_plane().traffic(local).unwrap().packets, 3);
        bench.kill(local);
        bench.expect(Reason::DeadServer, &family.segment(1).ack(2100));
    }
}

#[test]
fn xdp_nothing_is_steered_before_the_maps_are_written() {
    for family in FAMILIES {
        let services = [service(family.vip(), Scheduler::Maglev, [real(1)])];
        let mut bench = Bench::unwritten(1024, 1024, services);
        let from = |number| family.segment(number);
        let to_nowhere = from(1).syn().with(|segment| segment.destination = [0; 6]);
        for segment in [from(1).syn(), from(1).ack(3), from(1), to_nowhere] {
            bench.expect(Reason::NotVip, &segment);
        }
        let vip = family.vip().ip();
        bench.expect_frame(
            Reason::NotVip,
            &Icmp::echo_request(family.client(1).ip(), vip, 8).frame(),
        );
        if let std::net::IpAddr::V4(vip) = vip {
            let asked = arp_frame(1, (CLIENT_MAC, [10, 77, 0, 31].into()), ([0; 6], vip));
            bench.expect_frame(Reason::ArpOther, &asked);
        }
        bench.apply();
        bench.expect(Reason::NewFlow, &from(1).syn());
    }
}

#[test]
fn xdp_another_mac_of_the_interface_is_followed() {
    for family in FAMILIES {
        let mut bench = three(family);
        let new = [2, 0, 10, 77, 0, 99];
        bench.director.macs = vec![mac(new)];
        bench.apply();
        bench.expect(Reason::NotOurMac, &family.segment(1).syn());
        // The harness sees that it is sent from the new one.
        let addressed = family.segment(1).syn().with(|segment| segment.destination = new);
        bench.expect(Reason::NewFlow, &addressed);
    }
}
