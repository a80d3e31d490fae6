//! Neighbour solicitations and advertisements as bytes (RFC 4861, sections 4.3, 4.4 and 4.6.1).

use std::net::Ipv6Addr;

use pgha_common::wire::Ethernet;
use pgha_machine::Mac;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Said, Word};

/// EtherType of IPv6 (IEEE 802 numbers).
pub(super) const ETHERTYPE_IPV6: [u8; 2] = 0x86ddu16.to_be_bytes();
/// All nodes of a link (RFC 4291, section 2.7.1).
pub(in crate::net::vip) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Numbers of ICMPv6.
pub(in crate::net::vip) mod icmp6 {
    /// As the next header of IPv6.
    pub(in crate::net::vip) const PROTOCOL: u8 = 58;
    /// Shows that no router has forwarded the packet (RFC 4861, section 7.1).
    pub(in crate::net::vip) const HOP_LIMIT: u8 = 255;
    pub(in crate::net::vip) const SOLICITATION: u8 = 135;
    pub(in crate::net::vip) const ADVERTISEMENT: u8 = 136;
}

/// Where things lie in a frame.
pub(in crate::net::vip) mod at {
    use std::mem::offset_of;

    use super::{Ethernet, Ipv6, Message};

    const IPV6: usize = size_of::<Ethernet>();
    const MESSAGE: usize = IPV6 + size_of::<Ipv6>();
    pub(in crate::net::vip) const NEXT_HEADER: usize = IPV6 + offset_of!(Ipv6, next_header);
    pub(in crate::net::vip) const HOP_LIMIT: usize = IPV6 + offset_of!(Ipv6, hop_limit);
    pub(in crate::net::vip) const ICMP6_TYPE: usize = MESSAGE + offset_of!(Message, kind);
}

/// The header of IPv6 (RFC 8200, section 3).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Ipv6 {
    /// Version, traffic class, flow label.
    first: [u8; 4],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

/// A solicitation or an advertisement, up to its options.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Message {
    kind: u8,
    code: u8,
    checksum: [u8; 2],
    /// Of an advertisement only.
    flags: [u8; 4],
    target: [u8; 16],
}

/// The option that names a MAC address: the sender's or the target's.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LinkLayer {
    kind: u8,
    /// In units of 8 bytes.
    length: u8,
    mac: [u8; 6],
}

impl LinkLayer {
    const OF_SENDER: u8 = 1;
    const OF_TARGET: u8 = 2;
}

const VERSION: [u8; 4] = [6 << 4, 0, 0, 0];
/// Replaces the MAC address that neighbours know (RFC 4861, section 4.4).
const OVERRIDE: [u8; 4] = [0x20, 0, 0, 0];

/// Those who may have `address` listen there (RFC 4291, section 2.7.1).
pub(in crate::net::vip) const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// RFC 4862, section 5.4.2: from no address, so without its sender's MAC address.
pub(super) fn probe(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    let message = Message {
        kind: icmp6::SOLICITATION,
        code: 0,
        checksum: [0; 2],
        flags: [0; 4],
        target: address.octets(),
    };
    frame(own, Ipv6Addr::UNSPECIFIED, solicited_node(address), message, &[])
}

/// RFC 4861, section 7.2.6.
pub(super) fn announcement(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    let message = Message {
        kind: icmp6::ADVERTISEMENT,
        code: 0,
        checksum: [0; 2],
        flags: OVERRIDE,
        target: address.octets(),
    };
    let option = LinkLayer { kind: LinkLayer::OF_TARGET, length: 1, mac: own.bytes() };
    frame(own, address, ALL_NODES, message, option.as_bytes())
}

fn frame(
    own: Mac,
    source: Ipv6Addr,
    group: Ipv6Addr,
    mut message: Message,
    options: &[u8],
) -> Vec<u8> {
    let length = size_of::<Message>() + options.len();
    let ipv6 = Ipv6 {
        first: VERSION,
        payload_length: u16::try_from(length).unwrap_or_default().to_be_bytes(),
        next_header: icmp6::PROTOCOL,
        hop_limit: icmp6::HOP_LIMIT,
        source: source.octets(),
        destination: group.octets(),
    };
    message.checksum = checksum(&ipv6, &[message.as_bytes(), options].concat());
    // RFC 2464, section 7.
    let [.., a, b, c, d] = group.octets();
    let ethernet = Ethernet {
        destination: [0x33, 0x33, a, b, c, d],
        source: own.bytes(),
        ethertype: ETHERTYPE_IPV6,
    };
    [ethernet.as_bytes(), ipv6.as_bytes(), message.as_bytes(), options].concat()
}

/// What a packet from the neighbour `from` says, if it is a valid message (RFC 4861, sections 7.1.1
/// and 7.1.2).
pub(super) fn read(packet: &[u8], from: Mac) -> Option<Word> {
    let (ipv6, rest) = Ipv6::read_from_prefix(packet).ok()?;
    let body = rest.get(..usize::from(u16::from_be_bytes(ipv6.payload_length)))?;
    let (message, options) = Message::read_from_prefix(body).ok()?;
    let near = ipv6.next_header == icmp6::PROTOCOL && ipv6.hop_limit == icmp6::HOP_LIMIT;
    if !near || message.code != 0 || checksum(&ipv6, body) != [0; 2] {
        return None;
    }
    let (source, target) = (Ipv6Addr::from(ipv6.source), Ipv6Addr::from(message.target));
    let (said, address, names) = match message.kind {
        icmp6::ADVERTISEMENT => (Said::Claims, target, LinkLayer::OF_TARGET),
        icmp6::SOLICITATION if source.is_unspecified() => {
            (Said::Probes, target, LinkLayer::OF_SENDER)
        }
        icmp6::SOLICITATION => (Said::Uses, source, LinkLayer::OF_SENDER),
        _ => return None,
    };
    let mac = link_layer(options, names)?.unwrap_or(from);
    Some(Word { address: address.into(), mac, said })
}

/// The MAC address in the first option of that kind; `None` for options cut short.
fn link_layer(mut options: &[u8], kind: u8) -> Option<Option<Mac>> {
    let mut mac = None;
    while let [found, length, ..] = *options {
        let option = options.get(..usize::from(length) * 8).filter(|option| !option.is_empty())?;
        if found == kind && mac.is_none() {
            mac = LinkLayer::read_from_bytes(option).ok().and_then(|named| Mac::new(named.mac));
        }
        options = options.get(option.len()..)?;
    }
    options.is_empty().then_some(mac)
}

/// The Internet checksum (RFC 1071) over pseudo header (RFC 8200, section 8.1) and `body`; zero where
/// the body contains it and is whole.
fn checksum(ipv6: &Ipv6, body: &[u8]) -> [u8; 2] {
    let numbers = [ipv6.payload_length, [0, ipv6.next_header]];
    let parts = [&ipv6.source[..], &ipv6.destination, numbers.as_flattened(), body];
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!u16::try_from(sum).unwrap_or_default()).to_be_bytes()
}
