//! ARP for IPv4 over Ethernet as bytes (RFC 826).

use std::net::Ipv4Addr;

use pgha_machine::Mac;

const ETHERTYPE: [u8; 2] = [0x08, 0x06];
/// Hardware Ethernet, protocol IPv4, address lengths 6 and 4.
const KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const BROADCAST: [u8; 6] = [0xff; 6];
/// An ARP packet of Ethernet and IPv4 with its Ethernet header.
pub(super) const LENGTH: usize = 42;

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
            Operation::Request => [0, 1],
            Operation::Reply => [0, 2],
        };
        let mut bytes = [0; LENGTH];
        let parts: [&[u8]; 9] = [
            &to,
            &self.sender_mac.bytes(),
            &ETHERTYPE,
            &KIND,
            &operation,
            &self.sender_mac.bytes(),
            &self.sender.octets(),
            &self.target_mac.map_or([0; 6], Mac::bytes),
            &self.target.octets(),
        ];
        for (byte, value) in bytes.iter_mut().zip(parts.iter().copied().flatten()) {
            *byte = *value;
        }
        bytes
    }

    /// The packet in an Ethernet frame; padding after it is ignored, and so is who it was sent to.
    pub(super) fn decode(frame: &[u8]) -> Option<Self> {
        let (_ethernet, rest) = frame.split_at_checked(12)?;
        let (kind, rest) = rest.split_at_checked(ETHERTYPE.len() + KIND.len())?;
        if kind != [ETHERTYPE.as_slice(), &KIND].concat() {
            return None;
        }
        let (operation, rest) = rest.split_first_chunk::<2>()?;
        let (sender_mac, rest) = rest.split_first_chunk::<6>()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (target_mac, rest) = rest.split_first_chunk::<6>()?;
        let (target, _padding) = rest.split_first_chunk::<4>()?;
        Some(Self {
            operation: match operation {
                [0, 1] => Operation::Request,
                [0, 2] => Operation::Reply,
                _ => return None,
            },
            sender_mac: Mac::new(*sender_mac)?,
            sender: Ipv4Addr::from(*sender),
            target_mac: Mac::new(*target_mac),
            target: Ipv4Addr::from(*target),
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
