//! Neighbour discovery: the answer to who asks for a VIP (RFC 4861).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;
use crate::family::{Address, Family, V6};
use crate::wire::{Icmp, Ipv6, PROTOCOL_ICMPV6};

/// Hop limit of every message: nobody further away can send it (RFC 4861, section 7.1).
pub const HOP_LIMIT: u8 = 255;
/// The group of all nodes, for whom has no address to answer to.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Its MAC address (RFC 2464, section 7).
pub const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// The address of who has none yet.
pub const UNSPECIFIED: [u8; 16] = [0; 16];

/// Neighbour solicitation or advertisement without its options (sections 4.3 and 4.4).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Discovery {
    /// Type and checksum; in an advertisement the flags are the first byte of `rest`.
    pub icmp: Icmp,
    /// The address in question.
    pub target: [u8; 16],
}

impl Discovery {
    /// ICMPv6 type of a solicitation.
    pub const SOLICITATION: u8 = 135;
    /// ICMPv6 type of an advertisement.
    pub const ADVERTISEMENT: u8 = 136;
    /// Flag of an advertisement: it answers a solicitation.
    pub const SOLICITED: u8 = 0x40;
    /// Flag of an advertisement: it counts more than what was known.
    pub const OVERRIDE: u8 = 0x20;
}

/// The option with a MAC address (section 4.6.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct LinkAddress {
    /// Whose address: [`Self::OF_SENDER`] or [`Self::OF_TARGET`].
    pub kind: u8,
    /// In units of eight bytes: 1.
    pub length: u8,
    /// The address.
    pub mac: [u8; 6],
}

impl LinkAddress {
    /// The address of who sends the message.
    pub const OF_SENDER: u8 = 1;
    /// The address of the target.
    pub const OF_TARGET: u8 = 2;
}

/// A whole advertisement.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Advertisement {
    /// From the target.
    pub ip: Ipv6,
    /// Its flags and the target.
    pub discovery: Discovery,
    /// Where the target is.
    pub link: LinkAddress,
}

const _: () = assert!(size_of::<Advertisement>() == 72);

/// "`target` is at `mac`", for whoever asked from `asker`. Who asks without an address is looking whether
/// somebody has the target already, and the answer goes to all nodes (section 7.2.4).
#[must_use]
#[inline(always)]
pub fn advertise(target: [u8; 16], mac: [u8; 6], asker: [u8; 16]) -> Advertisement {
    if asker == UNSPECIFIED {
        advertisement(target, mac, ALL_NODES, Discovery::OVERRIDE)
    } else {
        advertisement(target, mac, asker, Discovery::SOLICITED | Discovery::OVERRIDE)
    }
}

#[inline(always)]
fn advertisement(target: [u8; 16], mac: [u8; 6], to: [u8; 16], flags: u8) -> Advertisement {
    let length = (size_of::<Discovery>() + size_of::<LinkAddress>()) as u16;
    let mut ip = V6::header(target, to, PROTOCOL_ICMPV6, length);
    ip.hop_limit = HOP_LIMIT;
    let link = LinkAddress { kind: LinkAddress::OF_TARGET, length: 1, mac };
    let [a, b, c, d, e, f] = mac;
    let sum = V6::pseudo_header(target, to, PROTOCOL_ICMPV6, length)
        + checksum::word([Discovery::ADVERTISEMENT, 0])
        + checksum::word([flags, 0])
        + Address::sum(target)
        + checksum::word([link.kind, link.length])
        + checksum::sum4([a, b, c, d])
        + checksum::word([e, f]);
    let icmp = Icmp {
        icmp_type: Discovery::ADVERTISEMENT,
        code: 0,
        checksum: checksum::finish(sum),
        rest: [flags, 0, 0, 0],
    };
    Advertisement { ip, discovery: Discovery { icmp, target }, link }
}

#[cfg(test)]
mod tests;
