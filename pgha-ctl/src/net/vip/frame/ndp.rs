//! Neighbour solicitations and advertisements as bytes (RFC 4861, sections 4.3, 4.4 and 4.6.1).

use std::net::Ipv6Addr;

use pgha_common::checksum;
use pgha_common::family::{Family as _, V6};
use pgha_common::neighbour::{self, Discovery, HOP_LIMIT, LinkAddress};
use pgha_common::wire::{ETHERTYPE_IPV6, Ethernet, Icmp, Ipv6, PROTOCOL_ICMPV6};
use pgha_machine::Mac;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{Said, Word};

/// All nodes of a link (RFC 4291, section 2.7.1).
pub(in crate::net::vip) const ALL_NODES: Ipv6Addr = Ipv6Addr::from_octets(neighbour::ALL_NODES);

/// Where things lie in a frame.
pub(in crate::net::vip) mod at {
    use std::mem::offset_of;

    use super::{Discovery, Ethernet, Icmp, Ipv6};

    const IPV6: usize = size_of::<Ethernet>();
    const MESSAGE: usize = IPV6 + size_of::<Ipv6>();
    pub(in crate::net::vip) const NEXT_HEADER: usize = IPV6 + offset_of!(Ipv6, next_header);
    pub(in crate::net::vip) const HOP_LIMIT: usize = IPV6 + offset_of!(Ipv6, hop_limit);
    pub(in crate::net::vip) const ICMP6_TYPE: usize =
        MESSAGE + offset_of!(Discovery, icmp) + offset_of!(Icmp, icmp_type);
}

/// Those who may have `address` listen there (RFC 4291, section 2.7.1).
pub(in crate::net::vip) const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// RFC 4862, section 5.4.2: from no address, so without its sender's MAC address.
pub(super) fn probe(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    let message = message(Discovery::SOLICITATION, 0, address);
    frame(own, Ipv6Addr::UNSPECIFIED, solicited_node(address), message, &[])
}

/// RFC 4861, section 7.2.2.
pub(super) fn solicitation(own: Mac, from: Ipv6Addr, address: Ipv6Addr) -> Vec<u8> {
    let message = message(Discovery::SOLICITATION, 0, address);
    let option = LinkAddress { kind: LinkAddress::OF_SENDER, length: 1, mac: own.bytes() };
    frame(own, from, solicited_node(address), message, option.as_bytes())
}

/// RFC 4861, section 7.2.6.
pub(super) fn announcement(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    let message = message(Discovery::ADVERTISEMENT, Discovery::OVERRIDE, address);
    let option = LinkAddress { kind: LinkAddress::OF_TARGET, length: 1, mac: own.bytes() };
    frame(own, address, ALL_NODES, message, option.as_bytes())
}

fn message(icmp_type: u8, flags: u8, target: Ipv6Addr) -> Discovery {
    let icmp = Icmp { icmp_type, code: 0, checksum: [0; 2], rest: [flags, 0, 0, 0] };
    Discovery { icmp, target: target.octets() }
}

fn frame(
    own: Mac,
    source: Ipv6Addr,
    group: Ipv6Addr,
    mut message: Discovery,
    options: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(size_of::<Discovery>() + options.len()).unwrap_or_default();
    let mut ipv6 = V6::header(source.octets(), group.octets(), PROTOCOL_ICMPV6, length);
    ipv6.hop_limit = HOP_LIMIT;
    message.icmp.checksum = checksum_of(&ipv6, &[message.as_bytes(), options].concat());
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
    let (message, options) = Discovery::read_from_prefix(body).ok()?;
    let near = ipv6.next_header == PROTOCOL_ICMPV6 && ipv6.hop_limit == HOP_LIMIT;
    if !near || message.icmp.code != 0 || checksum_of(&ipv6, body) != [0; 2] {
        return None;
    }
    let (source, target) = (Ipv6Addr::from(ipv6.source), Ipv6Addr::from(message.target));
    let (said, address, names) = match message.icmp.icmp_type {
        Discovery::ADVERTISEMENT if message.icmp.rest[0] & Discovery::SOLICITED != 0 => {
            (Said::Answers, target, LinkAddress::OF_TARGET)
        }
        Discovery::ADVERTISEMENT => (Said::Claims, target, LinkAddress::OF_TARGET),
        Discovery::SOLICITATION if source.is_unspecified() => {
            (Said::Probes, target, LinkAddress::OF_SENDER)
        }
        Discovery::SOLICITATION => (Said::Uses, source, LinkAddress::OF_SENDER),
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
            mac = LinkAddress::read_from_bytes(option).ok().and_then(|named| Mac::new(named.mac));
        }
        options = options.get(option.len()..)?;
    }
    options.is_empty().then_some(mac)
}

/// The checksum over pseudo header and `body`; zero where the body contains it and is whole.
fn checksum_of(ipv6: &Ipv6, body: &[u8]) -> [u8; 2] {
    let [high, low] = ipv6.payload_length;
    let length = u16::from_be_bytes([high, low]);
    let pseudo = V6::pseudo_header(ipv6.source, ipv6.destination, ipv6.next_header, length);
    let words = body.chunks(2).map(|pair| [pair[0], pair.get(1).copied().unwrap_or_default()]);
    checksum::finish(pseudo + words.map(checksum::word).sum::<u32>())
}
