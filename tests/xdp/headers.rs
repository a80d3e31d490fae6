//! IP headers: what of them is no obstacle, what is preserved, and what ends a packet.

use etherparse::IpNumber;
use pgha_common::verdict::{Action, Reason};
use pgha_tests::dataplane::frame::Extension;
use pgha_tests::dataplane::{CLIENT_MAC, DIRECTOR_MAC, FAMILIES, Family, Segment, VIP6};

use crate::harness::{named, three};

/// Where the IP header begins.
const IP_AT: usize = 14;
/// The fields that say how long a packet is.
const IPV4_LENGTH: std::ops::Range<usize> = 16..18;
const IPV6_LENGTH: std::ops::Range<usize> = 18..20;
/// More extension headers than anybody has a use for.
const TOO_MANY: usize = 12;

/// The segment, with these IPv6 extension headers.
fn extended(segment: Segment, extensions: impl IntoIterator<Item = Extension>) -> Segment {
    segment.with(|segment| segment.ip.extensions_mut().extend(extensions))
}

#[test]
fn xdp_type_of_service_and_traffic_class_are_preserved() {
    for family in FAMILIES {
        let mut bench = three(family);
        let named = named(&bench.plan.services[0], [1])[0];
        for class in [0x8c, 3, 0xfd, 0] {
            // The harness compares every byte behind the MAC addresses.
            let marked = family.segment(1).syn().with(|syn| syn.ip.set_traffic_class(class));
            assert_eq!(bench.send(&marked.frame()).real(), named);
        }
    }
    let labelled = Family::Ipv6.segment(1).syn().with(|segment| {
        segment.ip.ipv6_mut().flow_label = 0xf_1234.try_into().unwrap();
    });
    three(Family::Ipv6).expect(Reason::NewFlow, &labelled);
}

#[test]
fn xdp_ip_options_before_tcp_are_no_obstacle() {
    for family in FAMILIES {
        let mut bench = three(family);
        let lengths: Vec<_> =
            family.pick((4..=40).step_by(4).collect(), (8..=64).step_by(8).collect());
        for (number, length) in (0..).zip(lengths) {
            let optional = |segment: &mut Segment| segment.ip.set_options(length);
            let syn = family.segment(number).syn().with(optional);
            let real = bench.expect(Reason::NewFlow, &syn).real();
            assert_eq!(real, named(&bench.plan.services[0], [number])[0]);
            let ack = family.segment(number).ack(2001).data(10).with(optional);
            assert_eq!(bench.expect(Reason::PendingFlow, &ack).real(), real);
        }
    }
}

#[test]
fn xdp_extension_headers_before_tcp_are_no_obstacle() {
    let mut bench = three(Family::Ipv6);
    let orders: [&[Extension]; 4] = [
        &[Extension::hop_by_hop(8)],
        &[Extension::routing(24)],
        &[Extension::hop_by_hop(16), Extension::destination_options(8)],
        &[Extension::destination_options(8), Extension::routing(8)],
    ];
    for (number, extensions) in (0..).zip(orders) {
        let from = || extended(Family::Ipv6.segment(number), extensions.to_vec());
        let real = bench.expect(Reason::NewFlow, &from().syn()).real();
        assert_eq!(real, named(&bench.plan.services[0], [number])[0]);
        // The data length, and so the flow's state, is what is behind them.
        bench.expect(Reason::PendingFlow, &from().ack(2001).data(100));
        assert_eq!(bench.expect(Reason::EstablishedFlow, &from().ack(2100)).real(), real);
        // With or without them it is the same flow.
        let plain = Family::Ipv6.segment(number).ack(2200);
        assert_eq!(bench.expect(Reason::EstablishedFlow, &plain).real(), real);
    }
}

/// A fixed number of extension headers is looked at: up to there a segment is balanced, beyond it is
/// dropped, never something between.
#[test]
fn xdp_too_many_extension_headers_are_dropped() {
    let mut bench = three(Family::Ipv6);
    let mut looked_at = 0;
    for count in 1..=TOO_MANY {
        let number = u32::try_from(count).unwrap();
        let headers = || vec![Extension::destination_options(8); count];
        let syn = extended(Family::Ipv6.segment(number).syn(), headers());
        let outcome = bench.send(&syn.frame());
        if outcome.reason == Reason::NewFlow {
            assert_eq!(looked_at, count - 1, "{count} are looked at, fewer are not");
            looked_at = count;
        } else {
            assert_eq!(outcome.reason, Reason::ExtensionHeaders, "{count} of them");
        }
        // Of another host's packets nothing is looked at.
        let elsewhere = syn.with(|syn| syn.ip.set_destination(Family::Ipv6.looks_like_vip()));
        bench.expect(Reason::NotVip, &elsewhere);
    }
    assert!((2..TOO_MANY).contains(&looked_at), "{looked_at} are looked at");
    println!("{looked_at} extension headers are looked at");
}

#[test]
fn xdp_extension_headers_cut_short_are_dropped() {
    let mut bench = three(Family::Ipv6);
    for length in [8, 24] {
        let syn = extended(Family::Ipv6.segment(1).syn(), [Extension::destination_options(length)]);
        let behind = syn.ip.packet(&syn.payload());
        // The IPv6 length agrees with the frame, and the extension header does not fit into it.
        for end in 40..40 + length {
            let mut packet = behind[..end].to_vec();
            packet[4..6].copy_from_slice(&u16::try_from(end - 40).unwrap().to_be_bytes());
            let frame = [&syn.frame()[..IP_AT], &packet].concat();
            let outcome = bench.send(&frame);
            assert_eq!(outcome.reason.action(), Action::Drop, "{outcome:?}");
        }
        // Its own length goes beyond the packet.
        let mut frame = syn.frame();
        frame[IP_AT + 41] = 200;
        assert_eq!(bench.send(&frame).reason.action(), Action::Drop);
    }
    assert!(bench.pending().is_empty());
}

#[test]
fn xdp_what_is_no_tcp_behind_extension_headers_passes() {
    let mut bench = three(Family::Ipv6);
    // No next header, ESP, UDP.
    for carried in [IpNumber::IPV6_NO_NEXT_HEADER, IpNumber(50), IpNumber::UDP] {
        for extensions in [vec![], vec![Extension::hop_by_hop(8)]] {
            let mut ip = extended(Family::Ipv6.segment(1), extensions).ip;
            ip.set_carried(carried);
            bench.expect_frame(Reason::NotTcp, &ip.frame(DIRECTOR_MAC, CLIENT_MAC, &[0; 40]));
        }
    }
}

#[test]
fn xdp_fragments_to_a_vip_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        // The first, one in between, the last, and at the greatest offset there is.
        for (offset, more) in [(0, true), (1, true), (180, false), (8191, false)] {
            for number in [1, 2] {
                for segment in
                    [family.segment(number).syn(), family.segment(number).ack(3).data(96)]
                {
                    let part = segment.with(|part| part.ip.set_fragment(offset, more));
                    bench.dropped(Reason::Fragment, &part.frame());
                }
            }
        }
    }
    // Of one fragment alone (RFC 6946), and behind another header.
    let mut bench = three(Family::Ipv6);
    for before in [None, Some(Extension::hop_by_hop(8))] {
        let headers = before.into_iter().chain([Extension::fragment(0, false)]);
        let atomic = extended(Family::Ipv6.segment(1).syn(), headers);
        bench.dropped(Reason::Fragment, &atomic.frame());
    }
}

#[test]
fn xdp_expired_packets_to_a_vip_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        let with = |segment: Segment, hops| segment.with(|segment| segment.ip.set_hops(hops));
        for hops in [0, 1] {
            for number in [1, 2] {
                for segment in [family.segment(number).syn(), family.segment(number).ack(3)] {
                    bench.dropped(Reason::TtlExpired, &with(segment, hops).frame());
                }
            }
        }
        bench.expect(Reason::NewFlow, &with(family.segment(2).syn(), 2));
    }
}

#[test]
fn xdp_bad_ip_headers_are_dropped() {
    let good: [fn(u8) -> bool; 2] =
        [|first| (0x45..=0x4f).contains(&first), |first| first >> 4 == 6];
    for (family, good) in FAMILIES.into_iter().zip(good) {
        let mut bench = three(family);
        let syn = family.segment(1).syn().frame();
        for first in (0..=u8::MAX).filter(|first| !good(*first)) {
            let mut frame = syn.clone();
            frame[IP_AT] = first;
            bench.dropped(Reason::BadIpHeader, &frame);
        }
    }
}

/// The frame with another length in its IP header, counted from the beginning of that.
fn claiming(family: Family, frame: &[u8], length: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (field, counted) =
        family.pick((IPV4_LENGTH, length), (IPV6_LENGTH, length.saturating_sub(40)));
    frame[field].copy_from_slice(&u16::try_from(counted).unwrap().to_be_bytes());
    frame
}

#[test]
fn xdp_lengths_that_contradict_the_frame_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        let header = family.header_length();
        let data = family.segment(1).ack(3).data(10).frame();
        let whole = data.len() - IP_AT;
        for length in [whole + 1, whole + 14, 1500, usize::from(u16::MAX)] {
            bench.dropped(Reason::Truncated, &claiming(family, &data, length));
        }
        for length in header + 1..header + 20 {
            bench.dropped(Reason::BadTcpHeader, &claiming(family, &data, length));
        }
        for end in IP_AT + header..data.len() {
            bench.dropped(Reason::Truncated, &data[..end]);
        }
        // A payload of none; in IPv6 that also announces a jumbogram (RFC 2675).
        let outcome = bench.send(&claiming(family, &data, header));
        assert_eq!(outcome.reason.action(), Action::Drop);
    }
    let mut bench = three(Family::Ipv4);
    let data = Family::Ipv4.segment(1).ack(3).data(10).frame();
    for length in [0, 1, 19] {
        bench.dropped(Reason::Truncated, &claiming(Family::Ipv4, &data, length));
    }
}

#[test]
fn xdp_ipv4_options_beyond_the_packet_are_dropped() {
    let mut bench = three(Family::Ipv4);
    let syn = Family::Ipv4.segment(1).syn().frame();
    for (lengths, reason) in [(6..=10, Reason::BadTcpHeader), (11..=15, Reason::Truncated)] {
        for ihl in lengths {
            let mut frame = syn.clone();
            frame[IP_AT] = 0x40 | ihl;
            bench.dropped(reason, &frame);
        }
    }
}

#[test]
fn xdp_padding_after_the_packet_is_carried_along() {
    for family in FAMILIES {
        let mut bench = three(family);
        // Up to the shortest frame that a network card sends, and one beyond it.
        for (number, length) in (0..).zip([60, family.headers() + 9]) {
            let mut padded = family.segment(number).syn().frame();
            padded.resize(padded.len().max(length), 0);
            assert_eq!(bench.expect_frame(Reason::NewFlow, &padded).frame.len(), padded.len());
            // Padding is no data: it clears no closing mark.
            let mut fin = family.segment(number).fin().ack(9).frame();
            fin.resize(fin.len().max(length), 0);
            bench.expect_frame(Reason::PendingFlow, &fin);
            let mut ack = family.segment(number).ack(9).frame();
            ack.resize(ack.len().max(length), 0);
            bench.expect_frame(Reason::PendingFlow, &ack);
            assert!(bench.pending().get(&family.key(number)).unwrap().is_closing());
        }
        bench.expect(Reason::EstablishedFlow, &family.segment(0).ack(2001).data(1420));
    }
}

#[test]
fn xdp_runts_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        let syn = family.segment(1).syn().frame();
        for length in IP_AT..IP_AT + family.header_length() {
            bench.expect_frame(Reason::Runt, &syn[..length]);
        }
    }
}

/// The VIP's address, mapped into IPv4 or out of it, is another one.
#[test]
fn xdp_an_ipv4_mapped_vip_is_no_vip() {
    let mut bench = three(Family::Ipv4);
    let std::net::SocketAddr::V4(vip) = Family::Ipv4.vip() else { unreachable!() };
    let mapped = std::net::SocketAddr::new(vip.ip().to_ipv6_mapped().into(), vip.port());
    let segment = Segment::new(Family::Ipv6.client(1), mapped).syn();
    bench.expect(Reason::NotVip, &segment);
    bench.expect(Reason::NotVip, &Segment::new(Family::Ipv6.client(1), VIP6).syn());
}
