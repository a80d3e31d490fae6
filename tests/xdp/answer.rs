//! What an answer of the program must be, read by etherparse.

use etherparse::{Ipv4Header, LinkSlice, NetSlice, SlicedPacket, TransportSlice};

/// Asserts that `answer` is a RST to the sender of `asked`, correct in every byte: exactly the
/// sequence number that makes the client take it (RFC 9293, section 3.10.7.1).
#[track_caller]
pub(crate) fn assert_reset(asked: &[u8], answer: &[u8]) {
    let (asked, reset) = (read(asked), read(answer));
    assert_eq!(answer.len(), 54);
    assert_eq!(reset.ipv4.header_checksum, reset.ipv4.calc_header_checksum());
    let checksum = reset.tcp.calc_checksum_ipv4(reset.ipv4.source, reset.ipv4.destination).unwrap();
    assert_eq!(reset.tcp.checksum(), checksum);
    assert_eq!(reset.macs, (asked.macs.1, asked.macs.0));
    assert_eq!(
        (reset.ipv4.source, reset.ipv4.destination),
        (asked.ipv4.destination, asked.ipv4.source)
    );
    let (to, from) = (&asked.tcp, &reset.tcp);
    assert_eq!(
        (from.source_port(), from.destination_port()),
        (to.destination_port(), to.source_port())
    );
    assert!(from.rst() && !from.syn() && !from.fin() && !from.psh() && !from.urg());
    if to.ack() {
        assert!(!from.ack());
        assert_eq!(from.sequence_number(), to.acknowledgment_number());
    } else {
        let length = u32::try_from(to.payload().len()).unwrap();
        let end = to.sequence_number().wrapping_add(length);
        let end = end.wrapping_add(u32::from(to.syn())).wrapping_add(u32::from(to.fin()));
        assert!(from.ack());
        assert_eq!((from.sequence_number(), from.acknowledgment_number()), (0, end));
    }
    assert!(from.payload().is_empty());
}

struct Read<'a> {
    macs: ([u8; 6], [u8; 6]),
    ipv4: Ipv4Header,
    tcp: etherparse::TcpSlice<'a>,
}

#[track_caller]
fn read(frame: &[u8]) -> Read<'_> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet") };
    let Some(NetSlice::Ipv4(ipv4)) = packet.net else { panic!("no IPv4") };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
    Read { macs: (ethernet.destination(), ethernet.source()), ipv4: ipv4.header().to_header(), tcp }
}
