//! ARP for IPv4 over Ethernet as bytes (RFC 826).

use std::net::Ipv4Addr;

use pgha_common::wire::{Arp, ETHERTYPE_ARP, Ethernet};
use pgha_machine::Mac;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const BROADCAST: [u8; 6] = [0xff; 6];
/// An ARP packet of Ethernet and IPv4 with its Ethernet header.
pub(super) const LENGTH: usize = size_of::<Packet>();

/// As it lies on the wire.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Packet {
    ethernet: Ethernet,
    arp: Arp,
}

/// What the sender asks for or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Reply,
}

/// One ARP packet. Requests are broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) operation: Operation,
    pub(super) sender_mac: Mac,
    pub(super) sender: Ipv4Addr,
    /// `None`: not known, all zero.
    pub(super) target_mac: Option<Mac>,
    pub(super) target: Ipv4Addr,
}

impl Frame {
    /// Asks for the users of `address` without saying that the sender is one (RFC 5227, 2.1.1).
    pub(super) const fn probe(own: Mac, address: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: own,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: None,
            target: address,
        }
    }

    /// Says that the sender has `address` (RFC 5227, section 3: the request form).
    pub(super) const fn announcement(own: Mac, address: Ipv4Addr) -> Self {
        Self { sender: address, ..Self::probe(own, address) }
    }

    /// The Ethernet frame, without padding (the card pads).
    pub(super) fn encode(&self) -> [u8; LENGTH] {
        let to = match (self.operation, self.target_mac) {
            (Operation::Reply, Some(mac)) => mac.bytes(),
            (Operation::Reply, None) | (Operation::Request, _) => BROADCAST,
        };
        let operation = match self.operation {
            Operation::Request => Arp::REQUEST,
            Operation::Reply => Arp::REPLY,
        };
        let sender_mac = self.sender_mac.bytes();
        zerocopy::transmute!(Packet {
            ethernet: Ethernet { destination: to, source: sender_mac, ethertype: ETHERTYPE_ARP },
            arp: Arp {
                format: Arp::IPV4_OVER_ETHERNET,
                operation,
                sender_mac,
                sender: self.sender.octets(),
                target_mac: self.target_mac.map_or([0; 6], Mac::bytes),
                target: self.target.octets(),
            },
        })
    }

    /// The packet in an Ethernet frame; padding after it is ignored, and so is who it was sent to.
    pub(super) fn decode(frame: &[u8]) -> Option<Self> {
        let (Packet { ethernet, arp }, _padding) = Packet::read_from_prefix(frame).ok()?;
        if ethernet.ethertype != ETHERTYPE_ARP || arp.format != Arp::IPV4_OVER_ETHERNET {
            return None;
        }
        Some(Self {
            operation: match arp.operation {
                Arp::REQUEST => Operation::Request,
                Arp::REPLY => Operation::Reply,
                _ => return None,
            },
            sender_mac: Mac::new(arp.sender_mac)?,
            sender: arp.sender.into(),
            target_mac: Mac::new(arp.target_mac),
            target: arp.target.into(),
        })
    }

    /// The MAC of somebody else who uses `address` or is about to: any packet with it as the
    /// sender's address, or another's probe for it (RFC 5227, 2.1.1).
    pub(super) fn other_user(self, address: Ipv4Addr, own: Mac) -> Option<Mac> {
        let uses = self.sender == address;
        let probes = self.operation == Operation::Request
            && self.sender.is_unspecified()
            && self.target == address;
        (self.sender_mac != own && (uses || probes)).then_some(self.sender_mac)
    }
}
