//! Ethernet frames, 802.1Q tags, ARP.
use std::net::Ipv4Addr;

use etherparse::{EtherType, Ethernet2Header};

/// EtherType of a tag (IEEE 802.1Q).
pub const TAG: u16 = EtherType::VLAN_TAGGED_FRAME.0;
/// EtherType of a provider's outer tag (IEEE 802.1ad).
pub const SERVICE_TAG: u16 = EtherType::PROVIDER_BRIDGING.0;

/// Length of the two MAC addresses that a tag comes after.
const MACS: usize = 12;

/// A frame of any kind.
#[must_use]
pub fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header { destination, source, ether_type: EtherType(ethertype) };
    [header.to_bytes().as_slice(), payload].concat()
}

/// The frame with a tag of that EtherType before all others: `control` is priority (3 bits), drop
/// eligibility (1 bit), number of the VLAN (12 bits).
#[must_use]
pub fn tagged(frame: &[u8], ethertype: u16, control: u16) -> Vec<u8> {
    let (macs, rest) = frame.split_at(MACS);
    [macs, &ethertype.to_be_bytes(), &control.to_be_bytes(), rest].concat()
}

/// An ARP packet (RFC 826) in a broadcast frame of its sender; operation 1 asks, 2 replies.
#[must_use]
pub fn arp_frame(
    operation: u8,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let packet = [
        &[0, 1, 8, 0, 6, 4, 0, operation],
        sender.0.as_slice(),
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    ]
    .concat();
    ethernet([0xff; 6], sender.0, EtherType::ARP.0, &packet)
}
