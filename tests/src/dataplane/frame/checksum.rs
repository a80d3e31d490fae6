//! Checksums, computed once more by etherparse.
use etherparse::checksum::Sum16BitWords;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Asserts that every checksum of a frame is right: of its IPv4 header, of TCP, of ICMP.
///
/// # Panics
/// When one is not, and when the frame is no IP packet with one of them.
#[track_caller]
pub fn assert_checksums(frame: &[u8]) {
    assert_eq!(has_right_checksums(frame), Some(true), "{frame:02x?}");
}

/// Whether every checksum of a frame is right; `None` when it is none of a whole IP packet with TCP or
/// ICMP.
#[must_use]
pub fn has_right_checksums(frame: &[u8]) -> Option<bool> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match (packet.net?, packet.transport?) {
        (NetSlice::Ipv4(ip), carried) => {
            let header = ip.header().to_header();
            let right = match carried {
                TransportSlice::Tcp(tcp) => {
                    let expected = tcp.calc_checksum_ipv4(header.source, header.destination);
                    Ok(tcp.checksum()) == expected
                }
                TransportSlice::Icmpv4(icmp) => {
                    // With the checksum itself, as whoever receives it adds it up (RFC 1071).
                    Sum16BitWords::new().add_slice(icmp.slice()).ones_complement() == 0
                }
                TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) | TransportSlice::Udp(_) => {
                    return None;
                }
            };
            Some(right && header.header_checksum == header.calc_header_checksum())
        }
        (NetSlice::Ipv6(ip), carried) => {
            let header = ip.header().to_header();
            match carried {
                TransportSlice::Tcp(tcp) => {
                    let expected = tcp.calc_checksum_ipv6(header.source, header.destination);
                    Some(Ok(tcp.checksum()) == expected)
                }
                TransportSlice::Icmpv6(icmp) => {
                    Some(icmp.is_checksum_valid(header.source, header.destination))
                }
                TransportSlice::Icmpv4(_) | TransportSlice::Igmp(_) | TransportSlice::Udp(_) => {
                    None
                }
            }
        }
        (NetSlice::Arp(_), _) => None,
    }
}
