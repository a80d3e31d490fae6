use std::net::Ipv6Addr;

use etherparse::{SlicedPacket, TransportSlice};

use super::*;
use crate::dataplane::{CLIENT_MAC, FAMILIES};

const TARGET: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0x12, 0x3456);

/// Asserts that a frame carries TCP with that much data, at whatever depth.
#[track_caller]
fn carries_tcp(frame: &[u8], data: usize) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{packet:?}") };
    assert_eq!(tcp.payload().len(), data);
    assert_checksums(frame);
}

#[test]
fn segments_are_well_formed() {
    for family in FAMILIES {
        for data in [0, 1, 7, 1400] {
            let segment = family.segment(3).ack(9).data(data);
            let frame = segment.frame();
            assert_eq!(frame.len(), family.headers() + data);
            carries_tcp(&frame, data);
            carries_tcp(&tagged(&frame, TAG, 7), data);
            carries_tcp(&tagged(&tagged(&frame, TAG, 7), SERVICE_TAG, 8), data);
            for length in [8, 16, 40] {
                let optional = segment.clone().with(|segment| segment.ip.set_options(length));
                assert_eq!(optional.ip.length(), family.header_length() + length);
                carries_tcp(&optional.frame(), data);
            }
        }
    }
}

#[test]
fn extension_headers_name_what_follows() {
    let all = [
        Extension::hop_by_hop(8),
        Extension::destination_options(64),
        Extension::routing(24),
        Extension::destination_options(512),
    ];
    let segment = FAMILIES[1].segment(1).syn().with(|segment| {
        segment.ip.extensions_mut().extend(all);
    });
    carries_tcp(&segment.frame(), 0);
    assert_eq!(segment.ip.length(), 40 + 8 + 64 + 24 + 512);
}

#[test]
fn fragments_are_no_tcp() {
    for family in FAMILIES {
        for (offset, more) in [(0, true), (1, true), (8191, false)] {
            let part = family.segment(1).ack(3).data(64);
            let part = part.with(|part| part.ip.set_fragment(offset, more)).frame();
            let packet = SlicedPacket::from_ethernet(&part).unwrap();
            assert_eq!(packet.transport, None);
            assert!(packet.net.unwrap().ip_payload_ref().unwrap().fragmented);
        }
    }
}

#[test]
fn messages_are_well_formed() {
    for family in FAMILIES {
        let (client, vip) = (family.client(1), family.vip());
        for length in [0, 1, 56, 1399] {
            assert_checksums(&Icmp::echo_request(client.ip(), vip.ip(), length).frame());
        }
        let quoted = Segment::new(vip, client).ack(3).data(33).packet();
        for error in ErrorKind::ALL {
            assert_checksums(&Icmp::error(error, family.host(), vip.ip(), &quoted).frame());
        }
    }
    let sender = (CLIENT_MAC, "fd77::31".parse().unwrap());
    for message in [
        solicitation(sender, TARGET),
        solicitation((CLIENT_MAC, Ipv6Addr::UNSPECIFIED), TARGET),
        unicast_solicitation(sender, ([2; 6], TARGET)),
        advertisement(sender, TARGET, flag::OVERRIDE),
    ] {
        assert_checksums(&message.frame());
    }
}

#[test]
fn groups_are_those_of_the_rules() {
    assert_eq!(solicited_node(TARGET), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    assert_eq!(group_mac(solicited_node(TARGET)), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
}
