use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn families() -> [Ends; 2] {
    let ends = |own: IpAddr, vip: IpAddr| Ends {
        own: SocketAddr::new(own, 40123),
        vip: SocketAddr::new(vip, 5432),
    };
    let network = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
    [
        ends(Ipv4Addr::new(10, 0, 0, 5).into(), Ipv4Addr::new(10, 0, 0, 100).into()),
        ends(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5).into(), network.into()),
    ]
}

/// The other way round.
fn turned(ends: &Ends) -> Ends {
    Ends { own: ends.vip, vip: ends.own }
}

fn syn_ack() -> Segment {
    let flags = Flags { syn: true, ack: true, ..Flags::default() };
    Segment { flags, sequence: 7, acknowledgement: 1001, payload: Vec::new() }
}

#[test]
fn a_probe_is_a_whole_frame_for_the_next_host_and_no_further() {
    let flags = Flags { syn: true, ..Flags::default() };
    let segment = Segment { flags, sequence: 1000, ..Segment::default() };
    for ends in families() {
        let bytes = frame(mac(1), mac(2), &ends, &segment);
        assert_eq!((&bytes[..6], &bytes[6..12]), (&mac(2).bytes()[..], &mac(1).bytes()[..]));
        let packet = SlicedPacket::from_ethernet(&bytes).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{ends:?}") };
        let header = tcp.to_header();
        assert_eq!((header.source_port, header.destination_port), (40123, 5432));
        assert!(header.syn && !header.ack && !header.psh);
        let (hops, checksum) = match packet.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let ip = ip.header().to_header();
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                (ip.time_to_live, header.calc_checksum_ipv4(&ip, &[]).unwrap())
            }
            NetSlice::Ipv6(ip) => {
                let ip = ip.header().to_header();
                (ip.hop_limit, header.calc_checksum_ipv6(&ip, &[]).unwrap())
            }
            NetSlice::Arp(_) => panic!("{ends:?}"),
        };
        assert_eq!((hops, header.checksum), (1, checksum), "{ends:?}");
    }
}

#[test]
fn an_answer_is_read_whole_or_not_at_all() {
    for ends in families() {
        let answer = Segment { payload: b"R\0\0".to_vec(), ..syn_ack() };
        let bytes = frame(mac(2), mac(1), &turned(&ends), &answer);
        let heard = Some(Heard::Segment(ends, answer.clone()));
        assert_eq!(read(&bytes), heard);
        // Padded by the card, or cut on the way.
        assert_eq!(read(&[&bytes[..], &[0; 20]].concat()), heard);
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), None, "{length} of {}", bytes.len());
        }
    }
}

#[test]
fn what_is_no_segment_is_none() {
    let [ipv4, ipv6] = families().map(|ends| frame(mac(2), mac(1), &turned(&ends), &syn_ack()));
    let with = |frame: &[u8], at: usize, byte: u8| {
        let mut frame = frame.to_vec();
        frame[at] = byte;
        frame
    };
    // UDP, a later fragment, another version, a data offset below the header's length, IGMP.
    for (at, byte) in [(23, 17), (21, 1), (14, 0x65), (46, 0x40), (23, 2)] {
        assert_eq!(read(&with(&ipv4, at, byte)), None, "byte {at}");
    }
    for (at, byte) in [(20, 17), (20, 44), (14, 0x45), (66, 0x40)] {
        assert_eq!(read(&with(&ipv6, at, byte)), None, "byte {at}");
    }
}

/// An ICMP error of a type and code that quotes so many bytes of a probe.
fn error(ends: &Ends, icmp: (u8, u8), by: IpAddr, quoted: usize) -> Vec<u8> {
    let flags = Flags { syn: true, ..Flags::default() };
    let probe = packet(ends, &Segment { flags, sequence: 1000, ..Segment::default() });
    let ethernet = PacketBuilder::ethernet2(mac(2).bytes(), mac(1).bytes());
    let mut frame = Vec::new();
    let (kind, code) = icmp;
    match (by, ends.own.ip()) {
        (IpAddr::V4(by), IpAddr::V4(to)) => {
            let icmp = ethernet.ipv4(by.octets(), to.octets(), 64).icmpv4_raw(kind, code, [0; 4]);
            icmp.write(&mut frame, &probe[..quoted]).unwrap();
        }
        (IpAddr::V6(by), IpAddr::V6(to)) => {
            let icmp = ethernet.ipv6(by.octets(), to.octets(), 64).icmpv6_raw(kind, code, [0; 4]);
            icmp.write(&mut frame, &probe[..quoted]).unwrap();
        }
        (by, to) => panic!("{by} and {to} are of one family"),
    }
    frame
}

#[test]
fn an_icmp_error_says_of_which_probe_and_why() {
    let [ipv4, ipv6] = families();
    let by4 = IpAddr::from([10, 0, 0, 7]);
    let by6: IpAddr = "fd00::7".parse().unwrap();
    let cases = [
        (ipv4, by4, (11, 0), "it forwards what is sent to the VIP instead of taking it"),
        (ipv4, by4, (3, 13), "a packet filter there rejects it"),
        (ipv4, by4, (3, 3), "the port is unreachable"),
        (ipv4, by4, (3, 1), "the VIP is unreachable"),
        (ipv4, by4, (3, 7), "it is unreachable"),
        (ipv6, by6, (3, 0), "it forwards what is sent to the VIP instead of taking it"),
        (ipv6, by6, (1, 1), "a packet filter there rejects it"),
        (ipv6, by6, (1, 4), "the port is unreachable"),
        (ipv6, by6, (1, 3), "the VIP is unreachable"),
    ];
    for (ends, by, (kind, code), said) in cases {
        let header = if ends.vip.is_ipv4() { 20 } else { 40 };
        let why = format!("{said} (ICMP type {kind}, code {code})");
        let heard = Some(Heard::Undelivered { ends, sequence: 1000, by, why });
        assert_eq!(read(&error(&ends, (kind, code), by, header + 8)), heard);
        assert_eq!(read(&error(&ends, (kind, code), by, header + 20)), heard);
        for short in [0, header - 1, header + 7] {
            assert_eq!(read(&error(&ends, (kind, code), by, short)), None, "{short}");
        }
    }
    // No error: an echo request, what says that a packet was too big, and unknown codes.
    assert_eq!(read(&error(&ipv4, (8, 0), by4, 28)), None);
    assert_eq!(read(&error(&ipv4, (3, 4), by4, 28)), None);
    assert_eq!(read(&error(&ipv4, (3, 16), by4, 28)), None);
    assert_eq!(read(&error(&ipv6, (1, 9), by6, 48)), None);
    assert_eq!(read(&error(&ipv6, (2, 0), by6, 48)), None);
}

proptest! {
    #[test]
    fn no_frame_of_chance_breaks_the_reader(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        ipv4 in any::<bool>(),
    ) {
        let _ = read(&bytes);
        // Chance alone hardly gets past the EtherType.
        let ends = families()[usize::from(!ipv4)];
        let mut frame = frame(mac(2), mac(1), &turned(&ends), &syn_ack());
        for (at, byte) in bytes.iter().enumerate().skip(14).take(frame.len().saturating_sub(15)) {
            if byte % 5 == 0 && at < frame.len() {
                frame[at] = *byte;
            }
        }
        let _ = read(&frame);
    }
}
