//! The RST that tells a client that its connection is over.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::flow::Segment;
use crate::wire::{ETHERTYPE_IPV4, Ethernet, Ipv4, PROTOCOL_TCP, Tcp, flag};

/// A whole frame with a RST and nothing else.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ResetFrame {
    /// Back to where the client's frame came from.
    pub ethernet: Ethernet,
    /// From the VIP to the client.
    pub ipv4: Ipv4,
    /// From the service's port to the client's.
    pub tcp: Tcp,
}

/// Length of a [`ResetFrame`], in bytes.
pub const RESET_LENGTH: usize = size_of::<ResetFrame>();

const _: () = assert!(RESET_LENGTH == 54);

/// The frame a client's segment is answered with.
pub struct Received<'a> {
    /// Its Ethernet header.
    pub ethernet: &'a Ethernet,
    /// Its IPv4 header.
    pub ipv4: &'a Ipv4,
    /// Source and destination port, as they lie.
    pub ports: [u8; 4],
    /// What its TCP header says.
    pub segment: Segment,
}

/// The answer to a segment for which there is no connection (RFC 9293, section 3.10.7.1): it carries
/// the sequence number the client expects next, which is what makes the client take it.
#[must_use]
#[inline(always)]
pub fn answer(received: &Received<'_>) -> ResetFrame {
    let segment = received.segment;
    let (sequence, acknowledgement, flags) = if segment.acknowledges {
        (segment.acknowledgement, 0, flag::RST)
    } else {
        let control = u32::from(segment.opens) + u32::from(segment.closes && !segment.resets);
        let end = segment.sequence.wrapping_add(segment.data_length).wrapping_add(control);
        (0, end, flag::RST | flag::ACK)
    };
    let [a, b, c, d] = received.ports;
    let mut frame = ResetFrame {
        ethernet: Ethernet {
            destination: received.ethernet.source,
            source: received.ethernet.destination,
            ethertype: ETHERTYPE_IPV4,
        },
        ipv4: Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: 40u16.to_be_bytes(),
            id: [0; 2],
            fragment: 0x4000u16.to_be_bytes(),
            ttl: 64,
            protocol: PROTOCOL_TCP,
            checksum: [0; 2],
            source: received.ipv4.destination,
            destination: received.ipv4.source,
        },
        tcp: Tcp {
            ports: [c, d, a, b],
            sequence: sequence.to_be_bytes(),
            acknowledgement: acknowledgement.to_be_bytes(),
            data_offset: 5 << 4,
            flags,
            window: [0; 2],
            checksum: [0; 2],
            urgent: [0; 2],
        },
    };
    let header = sum_ipv4(&frame.ipv4);
    frame.ipv4.checksum = finish(header);
    let pseudo = sum_address(frame.ipv4.source)
        + sum_address(frame.ipv4.destination)
        + u32::from(PROTOCOL_TCP)
        + size_of::<Tcp>() as u32;
    frame.tcp.checksum = finish(pseudo + sum_tcp(&frame.tcp));
    frame
}

#[inline(always)]
fn sum_address([a, b, c, d]: [u8; 4]) -> u32 {
    word([a, b]) + word([c, d])
}

#[inline(always)]
fn sum_ipv4(header: &Ipv4) -> u32 {
    word([header.version_ihl, header.tos])
        + word(header.total_length)
        + word(header.id)
        + word(header.fragment)
        + word([header.ttl, header.protocol])
        + sum_address(header.source)
        + sum_address(header.destination)
}

#[inline(always)]
fn sum_tcp(header: &Tcp) -> u32 {
    sum_address(header.ports)
        + sum_address(header.sequence)
        + sum_address(header.acknowledgement)
        + word([header.data_offset, header.flags])
        + word(header.window)
        + word(header.urgent)
}

#[inline(always)]
fn word(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_be_bytes(bytes))
}

/// Folds a sum of 16-bit words to the Internet checksum (RFC 1071).
#[inline(always)]
fn finish(sum: u32) -> [u8; 2] {
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests;
