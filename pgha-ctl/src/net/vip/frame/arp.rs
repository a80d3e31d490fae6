//! ARP for IPv4 over Ethernet as bytes (RFC 826).

use std::net::Ipv4Addr;

use pgha_common::wire::{Arp, ETHERTYPE_ARP, Ethernet};
use pgha_machine::Mac;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{Said, Word};

const BROADCAST: [u8; 6] = [0xff; 6];
/// In the first byte of a MAC address: that of a group (IEEE 802).
const GROUP: u8 = 1;

/// RFC 5227, 2.1.1: the sender's address is left out.
pub(super) fn probe(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(own, Ipv4Addr::UNSPECIFIED, address)
}

/// RFC 5227, section 3: the request form.
pub(super) fn announcement(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(own, address, address)
}

/// To everybody, without padding (the card pads).
pub(super) fn request(own: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let ethernet =
        Ethernet { destination: BROADCAST, source: own.bytes(), ethertype: ETHERTYPE_ARP };
    let arp = Arp {
        format: Arp::IPV4_OVER_ETHERNET,
        operation: Arp::REQUEST,
        sender_mac: own.bytes(),
        sender: sender.octets(),
        target_mac: [0; 6],
        target: target.octets(),
    };
    [ethernet.as_bytes(), arp.as_bytes()].concat()
}

/// What a packet says in a frame to `to`. A reply to one host answers it, unless sender and target are the same
/// (RFC 5227, section 3).
pub(super) fn read(packet: &[u8], to: [u8; 6]) -> Option<Word> {
    let (arp, _padding) = Arp::read_from_prefix(packet).ok()?;
    let nobody = Ipv4Addr::UNSPECIFIED.octets();
    let (said, address) = match arp.operation {
        _ if arp.format != Arp::IPV4_OVER_ETHERNET => return None,
        Arp::REPLY if arp.sender != arp.target && to[0] & GROUP == 0 => (Said::Answers, arp.sender),
        Arp::REPLY => (Said::Claims, arp.sender),
        Arp::REQUEST if arp.sender == nobody => (Said::Probes, arp.target),
        Arp::REQUEST if arp.sender == arp.target => (Said::Claims, arp.sender),
        Arp::REQUEST => (Said::Uses, arp.sender),
        _ => return None,
    };
    Some(Word { address: address.into(), mac: Mac::new(arp.sender_mac)?, said })
}
