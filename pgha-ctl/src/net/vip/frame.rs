//! The frames by which hosts speak of their addresses, the same for both families.

mod arp;
mod ndp;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use pgha_common::wire::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Ethernet};
use pgha_machine::Mac;
use zerocopy::FromBytes as _;

pub(super) use ndp::{ALL_NODES, at, solicited_node};

/// What a frame says about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) address: IpAddr,
    /// The host that said it.
    pub(super) mac: Mac,
    pub(super) said: Said,
}

/// What a host says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// "It is here", to everybody: an announcement.
    Claims,
    /// "It is here", to one who asked.
    Answers,
    /// It asks for another address in this one's name.
    Uses,
    /// It wants to know whether anybody has it, and is about to use it.
    Probes,
}

/// Asks for the users of `address` without saying that the sender is one.
pub(super) fn probe(own: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp::probe(own, address),
        IpAddr::V6(address) => ndp::probe(own, address),
    }
}

/// Asks who has `address` as any host does that wants to send there, in the name of `from`, which is of the
/// same family.
pub(super) fn question(own: Mac, from: IpAddr, address: IpAddr) -> Option<Vec<u8>> {
    match (from, address) {
        (IpAddr::V4(from), IpAddr::V4(address)) => Some(arp::request(own, from, address)),
        (IpAddr::V6(from), IpAddr::V6(address)) => Some(ndp::solicitation(own, from, address)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// Says to everybody that the sender has `address`.
pub(super) fn announcement(own: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp::announcement(own, address),
        IpAddr::V6(address) => ndp::announcement(own, address),
    }
}

/// What a frame says, if it speaks of an address. Padding after it is ignored, and so is who it was
/// sent to.
pub(super) fn read(frame: &[u8]) -> Option<Word> {
    let (ethernet, rest) = Ethernet::read_from_prefix(frame).ok()?;
    match ethernet.ethertype {
        ETHERTYPE_ARP => arp::read(rest, ethernet.destination),
        ETHERTYPE_IPV6 => ndp::read(rest, Mac::new(ethernet.source)?),
        _ => None,
    }
}
