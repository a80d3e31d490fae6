//! The packets of a probe, and what is heard of it, as bytes.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};
use pgha_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6,
    PROTOCOL_TCP,
};
use pgha_machine::Mac;
use zerocopy::{FromBytes as _, IntoBytes as _};

#[cfg(test)]
mod tests;

/// Hops of a probe's packets: the next host is the last. A server that does not have the VIP but forwards
/// cannot pass it on to one that has it, and a director there sees that it is meant for that very host.
pub(super) const HOPS: u8 = 1;
/// What the prober would take in one go; more than a server ever says before it is answered.
const WINDOW: u16 = 8192;

/// The flags of a segment that a probe goes by (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the header's")]
pub(super) struct Flags {
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
}

/// A TCP segment, without its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) flags: Flags,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) payload: Vec<u8>,
}

/// The ends of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The prober's.
    pub(super) own: SocketAddr,
    /// The VIP's.
    pub(super) vip: SocketAddr,
}

/// What came in that may be about a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A segment from the VIP.
    Segment(Ends, Segment),
    /// Somebody could not or would not deliver a segment to the VIP.
    Undelivered {
        /// Of the segment.
        ends: Ends,
        /// Of the segment.
        sequence: u32,
        /// Who says so.
        by: IpAddr,
        /// In what words.
        why: String,
    },
}

/// A packet from the prober to the VIP.
pub(super) fn packet(ends: &Ends, segment: &Segment) -> Vec<u8> {
    let header = TcpHeader {
        syn: segment.flags.syn,
        ack: segment.flags.ack,
        fin: segment.flags.fin,
        rst: segment.flags.rst,
        psh: !segment.payload.is_empty(),
        acknowledgment_number: segment.acknowledgement,
        ..TcpHeader::new(ends.own.port(), ends.vip.port(), segment.sequence, WINDOW)
    };
    let ip = match (ends.own.ip(), ends.vip.ip()) {
        (IpAddr::V4(own), IpAddr::V4(vip)) => PacketBuilder::ipv4(own.octets(), vip.octets(), HOPS),
        (own, vip) => PacketBuilder::ipv6(mapped(own), mapped(vip), HOPS),
    };
    let mut packet = Vec::new();
    // A vector takes everything, and no segment of a probe is too long.
    let _ = ip.tcp_header(header).write(&mut packet, &segment.payload);
    packet
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The same in a frame.
pub(super) fn frame(from: Mac, to: Mac, ends: &Ends, segment: &Segment) -> Vec<u8> {
    let ethertype = if ends.vip.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let ethernet = Ethernet { destination: to.bytes(), source: from.bytes(), ethertype };
    [ethernet.as_bytes(), &packet(ends, segment)].concat()
}

/// What a frame says, if it may be about a probe. Checksums are not looked at: a frame that never was on
/// a wire (veth, loopback) has none yet, and an answer is known by the number that it acknowledges.
pub(super) fn read(frame: &[u8]) -> Option<Heard> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), IpAddr::from(ip.header().destination_addr()))
        }
        NetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), IpAddr::from(ip.header().destination_addr()))
        }
        NetSlice::Arp(_) => return None,
    };
    match packet.transport? {
        TransportSlice::Tcp(tcp) => {
            let ends = Ends {
                own: SocketAddr::new(destination, tcp.destination_port()),
                vip: SocketAddr::new(source, tcp.source_port()),
            };
            let flags = Flags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst() };
            let segment = Segment {
                flags,
                sequence: tcp.sequence_number(),
                acknowledgement: tcp.acknowledgment_number(),
                payload: tcp.payload().to_vec(),
            };
            Some(Heard::Segment(ends, segment))
        }
        TransportSlice::Icmpv4(icmp) => {
            let why = undelivered(PROTOCOL_ICMP, icmp.type_u8(), icmp.code_u8())?;
            let (ends, sequence) = quoted(icmp.payload())?;
            Some(Heard::Undelivered { ends, sequence, by: source, why })
        }
        TransportSlice::Icmpv6(icmp) => {
            let why = undelivered(PROTOCOL_ICMPV6, icmp.type_u8(), icmp.code_u8())?;
            let (ends, sequence) = quoted(icmp.payload())?;
            Some(Heard::Undelivered { ends, sequence, by: source, why })
        }
        TransportSlice::Udp(_) | TransportSlice::Igmp(_) => None,
    }
}

/// An ICMP error in words (RFC 792, RFC 1812, RFC 4443).
fn undelivered(protocol: u8, icmp_type: u8, code: u8) -> Option<String> {
    let why = match (protocol, icmp_type, code) {
        (PROTOCOL_ICMP, 11, _) | (PROTOCOL_ICMPV6, 3, _) => {
            "it forwards what is sent to the VIP instead of taking it"
        }
        (PROTOCOL_ICMP, 3, 9 | 10 | 13) | (PROTOCOL_ICMPV6, 1, 1 | 5) => {
            "a packet filter there rejects it"
        }
        (PROTOCOL_ICMP, 3, 3) | (PROTOCOL_ICMPV6, 1, 4) => "the port is unreachable",
        (PROTOCOL_ICMP, 3, 0 | 1) | (PROTOCOL_ICMPV6, 1, 0 | 3) => "the VIP is unreachable",
        // Not code 4: somebody wants smaller packets, and says nothing of the VIP.
        (PROTOCOL_ICMP, 3, 2 | 5..=8 | 11 | 12 | 14 | 15) | (PROTOCOL_ICMPV6, 1, 2 | 6..=8) => {
            "it is unreachable"
        }
        _ => return None,
    };
    Some(format!("{why} (ICMP type {icmp_type}, code {code})"))
}

/// Whose segment an ICMP error quotes: an IP header and at least eight bytes of what it carries.
fn quoted(packet: &[u8]) -> Option<(Ends, u32)> {
    let (own, vip, protocol, rest) = if packet.first()? >> 4 == 4 {
        let (header, _) = Ipv4::read_from_prefix(packet).ok()?;
        let rest = packet.get(header.header_length()..)?;
        (IpAddr::from(header.source), IpAddr::from(header.destination), header.protocol, rest)
    } else {
        let (header, rest) = Ipv6::read_from_prefix(packet).ok()?;
        (header.source.into(), header.destination.into(), header.next_header, rest)
    };
    if protocol != PROTOCOL_TCP {
        return None;
    }
    let [a, b, c, d, e, f, g, h, ..] = *rest else { return None };
    let ends = Ends {
        own: SocketAddr::new(own, u16::from_be_bytes([a, b])),
        vip: SocketAddr::new(vip, u16::from_be_bytes([c, d])),
    };
    Some((ends, u32::from_be_bytes([e, f, g, h])))
}
