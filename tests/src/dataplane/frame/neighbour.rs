//! Neighbour discovery (RFC 4861).
use std::net::Ipv6Addr;

use super::{Icmp, kind};

/// Hop limit of every message: it has come through no router (RFC 4861, section 7.1).
const LINK_LOCAL_HOPS: u8 = 255;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Kinds of options.
pub mod option {
    /// Link-layer address of the sender.
    pub const SOURCE: u8 = 1;
    /// Link-layer address of the target.
    pub const TARGET: u8 = 2;
    /// A nonce, by which a sender knows its own message again (RFC 7527, RFC 3971).
    pub const NONCE: u8 = 14;
}

/// Flags of an advertisement.
pub mod flag {
    /// Its sender is a router.
    pub const ROUTER: u8 = 0x80;
    /// It answers a solicitation.
    pub const SOLICITED: u8 = 0x40;
    /// It replaces what is known.
    pub const OVERRIDE: u8 = 0x20;
}

/// Asks all who may have `target` for their link-layer address. A sender without an address asks
/// whether anybody has it at all (duplicate address detection: RFC 4862, section 5.4.2).
#[must_use]
pub fn solicitation(sender: ([u8; 6], Ipv6Addr), target: Ipv6Addr) -> Icmp {
    let group = solicited_node(target);
    let asked = message(sender, (group_mac(group), group), kind::SOLICITATION, target);
    if sender.1.is_unspecified() { asked } else { with_option(asked, option::SOURCE, sender.0) }
}

/// Asks `target` alone whether it is still there (RFC 4861, section 7.3.3).
#[must_use]
pub fn unicast_solicitation(sender: ([u8; 6], Ipv6Addr), target: ([u8; 6], Ipv6Addr)) -> Icmp {
    message(sender, target, kind::SOLICITATION, target.1)
}

/// Tells all nodes that the sender has `target`; with [`flag`]s.
#[must_use]
pub fn advertisement(sender: ([u8; 6], Ipv6Addr), target: Ipv6Addr, flags: u8) -> Icmp {
    let told = message(sender, (group_mac(ALL_NODES), ALL_NODES), kind::ADVERTISEMENT, target);
    with_option(told.with(|told| told.rest[0] = flags), option::TARGET, sender.0)
}

/// The group of those whose addresses end like this one (RFC 4291, section 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&[a, b, c]);
    group.into()
}

/// The MAC address of a group (RFC 2464, section 7).
#[must_use]
pub fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn message(
    sender: ([u8; 6], Ipv6Addr),
    receiver: ([u8; 6], Ipv6Addr),
    kind: u8,
    target: Ipv6Addr,
) -> Icmp {
    Icmp::new(sender.1.into(), receiver.1.into(), kind).with(|message| {
        message.ip.set_hops(LINK_LOCAL_HOPS);
        (message.destination, message.source) = (receiver.0, sender.0);
        message.body = target.octets().to_vec();
    })
}

/// With an option of 8 bytes.
fn with_option(message: Icmp, kind: u8, content: [u8; 6]) -> Icmp {
    message.with(|message| {
        message.body.extend([kind, 1]);
        message.body.extend(content);
    })
}
