//! Headers as they lie in a frame: network byte order, no alignment, no padding.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// EtherType of IPv4 (IEEE 802 numbers).
pub const ETHERTYPE_IPV4: [u8; 2] = 0x0800u16.to_be_bytes();
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: [u8; 2] = 0x86ddu16.to_be_bytes();
/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: [u8; 2] = 0x0806u16.to_be_bytes();
/// EtherType of a customer's VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: [u8; 2] = 0x8100u16.to_be_bytes();
/// EtherType of a service provider's VLAN tag (IEEE 802.1ad), which stands before a customer's.
pub const ETHERTYPE_SERVICE_VLAN: [u8; 2] = 0x88a8u16.to_be_bytes();

/// Protocol number of ICMP (RFC 792).
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of ICMPv6 (RFC 4443).
pub const PROTOCOL_ICMPV6: u8 = 58;

/// Ethernet II header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Ethernet {
    /// MAC address of the receiver.
    pub destination: [u8; 6],
    /// MAC address of the sender.
    pub source: [u8; 6],
    /// What the frame carries.
    pub ethertype: [u8; 2],
}

/// VLAN tag, behind an EtherType that announces it (IEEE 802.1Q).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct VlanTag {
    /// Priority in the high four bits, number of the VLAN in the low 12.
    pub control: [u8; 2],
    /// What the frame carries.
    pub ethertype: [u8; 2],
}

/// IPv4 header without options (RFC 791).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Ipv4 {
    /// Version in the high four bits, header length in 32-bit words in the low four.
    pub version_ihl: u8,
    /// Differentiated services and congestion notification.
    pub tos: u8,
    /// Header and payload, in bytes.
    pub total_length: [u8; 2],
    /// Identification, for reassembly.
    pub id: [u8; 2],
    /// Flags in the high three bits, fragment offset in the low 13.
    pub fragment: [u8; 2],
    /// Time to live, in hops.
    pub ttl: u8,
    /// What the packet carries.
    pub protocol: u8,
    /// Internet checksum over the header.
    pub checksum: [u8; 2],
    /// Address of the sender.
    pub source: [u8; 4],
    /// Address of the receiver.
    pub destination: [u8; 4],
}

impl Ipv4 {
    /// [`Self::fragment`] of a whole packet that no router may take apart.
    pub const DONT_FRAGMENT: [u8; 2] = 0x4000u16.to_be_bytes();

    /// Version field; 4 in a correct header.
    #[must_use]
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Length of the header with its options, in bytes: 0 to 60, below 20 in a broken header.
    #[must_use]
    #[inline(always)]
    pub const fn header_length(&self) -> usize {
        (self.version_ihl & 0xf) as usize * 4
    }

    /// Whether this is a fragment other than the first: one that carries no transport header.
    #[must_use]
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & 0x1fff != 0
    }

    /// Whether this is a fragment: "more fragments" set, or an offset other than 0.
    #[must_use]
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & 0x3fff != 0
    }
}

/// IPv6 header (RFC 8200, section 3).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Ipv6 {
    /// Version in the high four bits, then eight of traffic class and twenty of flow label.
    pub version_class_label: [u8; 4],
    /// Everything behind this header, in bytes.
    pub payload_length: [u8; 2],
    /// What follows: an extension header, or what the packet carries.
    pub next_header: u8,
    /// How many more hops there may be.
    pub hop_limit: u8,
    /// Address of the sender.
    pub source: [u8; 16],
    /// Address of the receiver.
    pub destination: [u8; 16],
}

impl Ipv6 {
    /// Version field; 6 in a correct header.
    #[must_use]
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_class_label[0] >> 4
    }
}

/// Beginning of an IPv6 extension header that has a length (RFC 8200, section 4).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Extension {
    /// What follows it.
    pub next_header: u8,
    /// Its length in units of eight bytes, the first of them not counted.
    pub length: u8,
}

impl Extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Destination options.
    pub const DESTINATION: u8 = 60;

    /// Length in bytes.
    #[must_use]
    #[inline(always)]
    pub const fn bytes(&self) -> usize {
        (self.length as usize + 1) * 8
    }
}

/// Beginning of every ICMP and ICMPv6 message (RFC 792; RFC 4443, section 2.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Icmp {
    /// Which message.
    pub icmp_type: u8,
    /// Which variant of it.
    pub code: u8,
    /// Internet checksum over the message; with IPv6 over a pseudo header too.
    pub checksum: [u8; 2],
    /// Depends on the message.
    pub rest: [u8; 4],
}

/// TCP header without options (RFC 9293, section 3.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Tcp {
    /// Source and destination port, as they lie.
    pub ports: [u8; 4],
    /// Sequence number of the first byte.
    pub sequence: [u8; 4],
    /// The next byte its sender expects, where the ACK flag is set.
    pub acknowledgement: [u8; 4],
    /// Header length in 32-bit words, in the high four bits.
    pub data_offset: u8,
    /// Control flags, [`flag`].
    pub flags: u8,
    /// Receive window.
    pub window: [u8; 2],
    /// Internet checksum over pseudo header, header and payload.
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: [u8; 2],
}

impl Tcp {
    /// Length of the header with its options, in bytes: 0 to 60, below 20 in a broken header.
    #[must_use]
    #[inline(always)]
    pub const fn header_length(&self) -> usize {
        (self.data_offset >> 4) as usize * 4
    }
}

/// Control flags of TCP.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Ends a connection at once.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// The six flags of RFC 793; ECN's two say nothing about the connection's state.
    pub const ALL: u8 = 0x3f;
}

/// ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Arp {
    /// Hardware type, protocol type, and the lengths of their addresses: [`Arp::IPV4_OVER_ETHERNET`].
    pub format: [u8; 6],
    /// [`Arp::REQUEST`] or [`Arp::REPLY`].
    pub operation: [u8; 2],
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 address of the sender.
    pub sender: [u8; 4],
    /// MAC address of the target.
    pub target_mac: [u8; 6],
    /// IPv4 address of the target.
    pub target: [u8; 4],
}

impl Arp {
    /// Hardware Ethernet (1), protocol IPv4, lengths 6 and 4.
    pub const IPV4_OVER_ETHERNET: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
    /// Operation code of a request.
    pub const REQUEST: [u8; 2] = 1u16.to_be_bytes();
    /// Operation code of a reply.
    pub const REPLY: [u8; 2] = 2u16.to_be_bytes();

    /// The reply of `mac`, which has the address that `self` asks for.
    #[must_use]
    #[inline(always)]
    pub const fn reply(&self, mac: [u8; 6]) -> Self {
        Self {
            format: Self::IPV4_OVER_ETHERNET,
            operation: Self::REPLY,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }
}
