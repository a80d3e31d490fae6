//! The two address families: what the rules need to know of addresses and headers, so that each rule is
//! written once. The compiler makes a copy for each family, and IPv4 pays nothing for IPv6.

use core::fmt::Debug;
use core::hash::Hash;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{self, Sum};
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6};

/// An address, as it lies in a frame.
pub trait Address:
    Copy
    + Debug
    + Eq
    + Hash
    + Ord
    + FromBytes
    + IntoBytes
    + Immutable
    + KnownLayout
    + Unaligned
    + 'static
{
    /// As an IPv6 address; IPv4 as an IPv4-mapped one (RFC 4291, section 2.5.5.2).
    #[must_use]
    fn mapped(self) -> [u8; 16];

    /// Its last byte.
    #[must_use]
    fn last(self) -> u8;

    /// Whether a packet may carry it. An IPv4-mapped address must not appear on the wire (RFC 4942, section
    /// 2.2), and here it would be taken for the IPv4 address.
    #[must_use]
    fn is_for_packets(self) -> bool;

    /// Whether a host can have it: it is not unspecified, a group's or loopback (RFC 1122, section 3.2.1.3;
    /// RFC 4291, section 2.5 and 2.7).
    #[must_use]
    fn is_of_a_host(self) -> bool;

    /// A hash of the address: [`crate::table`].
    #[must_use]
    fn hash(self) -> u64;

    /// A hash of two addresses.
    #[must_use]
    fn hash_with(self, other: Self) -> u64;

    /// Whom the address belongs to, as far as can be told: an IPv4 address is one host, and an IPv6 host
    /// has a network of 64 bits to choose addresses from (RFC 4291, section 2.5.4).
    #[must_use]
    fn owner(self) -> [u8; 8];

    /// Its 16-bit words, added.
    #[must_use]
    fn sum(self) -> Sum;
}

/// An address family, with its headers.
pub trait Family: 'static {
    /// Its addresses.
    type Address: Address;
    /// Its header, without options or extension headers.
    type Header: Copy + Debug + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned;

    /// EtherType of its packets.
    const ETHERTYPE: [u8; 2];
    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP type of an echo reply.
    const ECHO_REPLY: u8;

    /// Whether an ICMP message of this type reports an error with a packet that it quotes.
    #[must_use]
    fn is_error(icmp_type: u8) -> bool;

    /// Who sent a packet.
    #[must_use]
    fn source(header: &Self::Header) -> Self::Address;

    /// Whom it is for.
    #[must_use]
    fn destination(header: &Self::Header) -> Self::Address;

    /// How many more hops it may make.
    #[must_use]
    fn hops(header: &Self::Header) -> u8;

    /// The header of a packet that begins here, with so many bytes behind it.
    #[must_use]
    fn header(
        source: Self::Address,
        destination: Self::Address,
        protocol: u8,
        payload_length: u16,
    ) -> Self::Header;

    /// Sends a packet back to where it came from: the addresses exchanged, and all hops before it.
    fn turn(header: &mut Self::Header);

    /// The sum of the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1).
    #[must_use]
    #[inline(always)]
    fn pseudo_header(
        source: Self::Address,
        destination: Self::Address,
        protocol: u8,
        length: u16,
    ) -> Sum {
        source.sum() + destination.sum() + u32::from(protocol) + u32::from(length)
    }
}

/// Hops that a packet has before it when it begins its way (RFC 1700's default TTL).
pub const HOPS: u8 = 64;

/// IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V4 {}

/// IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V6 {}

impl Address for [u8; 4] {
    #[inline(always)]
    fn mapped(self) -> [u8; 16] {
        (0xffff_0000_0000 | u128::from(u32::from_be_bytes(self))).to_be_bytes()
    }

    #[inline(always)]
    fn last(self) -> u8 {
        self[3]
    }

    #[inline(always)]
    fn is_for_packets(self) -> bool {
        true
    }

    #[inline(always)]
    fn is_of_a_host(self) -> bool {
        const LOOPBACK: u8 = 127;
        const GROUPS: u8 = 224;
        self[0] != 0 && self[0] != LOOPBACK && self[0] < GROUPS
    }

    #[inline(always)]
    fn hash(self) -> u64 {
        mix(u64::from(u32::from_be_bytes(self)) ^ SEED)
    }

    #[inline(always)]
    fn hash_with(self, other: Self) -> u64 {
        mix((u64::from(u32::from_be_bytes(self)) << 32 | u64::from(u32::from_be_bytes(other)))
            ^ SEED)
    }

    #[inline(always)]
    fn owner(self) -> [u8; 8] {
        let [a, b, c, d] = self;
        [a, b, c, d, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn sum(self) -> Sum {
        checksum::sum4(self)
    }
}

impl Address for [u8; 16] {
    #[inline(always)]
    fn mapped(self) -> [u8; 16] {
        self
    }

    #[inline(always)]
    fn last(self) -> u8 {
        halves(self).1 as u8
    }

    #[inline(always)]
    fn is_for_packets(self) -> bool {
        let (high, low) = halves(self);
        high != 0 || low >> 32 != 0xffff
    }

    #[inline(always)]
    fn is_of_a_host(self) -> bool {
        const GROUP: u64 = 0xff;
        let (high, low) = halves(self);
        // Beside groups, `::` and `::1`.
        high >> 56 != GROUP && (high != 0 || low > 1)
    }

    #[inline(always)]
    fn hash(self) -> u64 {
        let (high, low) = halves(self);
        mix(mix(high ^ SEED) ^ low)
    }

    #[inline(always)]
    fn hash_with(self, other: Self) -> u64 {
        let (high, low) = halves(other);
        mix(mix(self.hash() ^ high) ^ low)
    }

    #[inline(always)]
    fn owner(self) -> [u8; 8] {
        halves(self).0.to_be_bytes()
    }

    #[inline(always)]
    fn sum(self) -> Sum {
        let (high, low) = halves(self);
        sum8(high) + sum8(low)
    }
}

impl Family for V4 {
    type Address = [u8; 4];
    type Header = Ipv4;

    const ETHERTYPE: [u8; 2] = ETHERTYPE_IPV4;
    const ICMP: u8 = PROTOCOL_ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    /// Destination unreachable, time exceeded, parameter problem (RFC 792).
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 3 | 11 | 12)
    }

    #[inline(always)]
    fn source(header: &Ipv4) -> [u8; 4] {
        header.source
    }

    #[inline(always)]
    fn destination(header: &Ipv4) -> [u8; 4] {
        header.destination
    }

    #[inline(always)]
    fn hops(header: &Ipv4) -> u8 {
        header.ttl
    }

    #[inline(always)]
    fn header(source: [u8; 4], destination: [u8; 4], protocol: u8, payload_length: u16) -> Ipv4 {
        let total = size_of::<Ipv4>() as u16 + payload_length;
        let mut header = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: total.to_be_bytes(),
            id: [0; 2],
            fragment: Ipv4::DONT_FRAGMENT,
            ttl: HOPS,
            protocol,
            checksum: [0; 2],
            source,
            destination,
        };
        header.checksum = checksum::finish(
            checksum::word([header.version_ihl, header.tos])
                + checksum::word(header.total_length)
                + checksum::word(header.fragment)
                + checksum::word([header.ttl, header.protocol])
                + source.sum()
                + destination.sum(),
        );
        header
    }

    #[inline(always)]
    fn turn(header: &mut Ipv4) {
        // Exchanged words leave the sum as it is.
        (header.source, header.destination) = (header.destination, header.source);
        let before = [header.ttl, header.protocol];
        header.ttl = HOPS;
        header.checksum = checksum::updated(header.checksum, before, [HOPS, header.protocol]);
    }
}

impl Family for V6 {
    type Address = [u8; 16];
    type Header = Ipv6;

    const ETHERTYPE: [u8; 2] = ETHERTYPE_IPV6;
    const ICMP: u8 = PROTOCOL_ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    /// Every type below 128 is an error (RFC 4443, section 2.1).
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        icmp_type < 128
    }

    #[inline(always)]
    fn source(header: &Ipv6) -> [u8; 16] {
        header.source
    }

    #[inline(always)]
    fn destination(header: &Ipv6) -> [u8; 16] {
        header.destination
    }

    #[inline(always)]
    fn hops(header: &Ipv6) -> u8 {
        header.hop_limit
    }

    #[inline(always)]
    fn header(source: [u8; 16], destination: [u8; 16], protocol: u8, payload_length: u16) -> Ipv6 {
        Ipv6 {
            version_class_label: [0x60, 0, 0, 0],
            payload_length: payload_length.to_be_bytes(),
            next_header: protocol,
            hop_limit: HOPS,
            source,
            destination,
        }
    }

    #[inline(always)]
    fn turn(header: &mut Ipv6) {
        (header.source, header.destination) = (header.destination, header.source);
        header.hop_limit = HOPS;
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The address as two words. Every method goes by these: where one looked at a byte, the compiler would keep
/// the address in pieces, and lay them on the stack as no verifier lets it.
#[inline(always)]
fn halves(address: [u8; 16]) -> (u64, u64) {
    let number = u128::from_be_bytes(address);
    ((number >> 64) as u64, number as u64)
}

/// The four words of eight bytes, added.
#[inline(always)]
const fn sum8(bytes: u64) -> Sum {
    ((bytes >> 48) + (bytes >> 32 & 0xffff) + (bytes >> 16 & 0xffff) + (bytes & 0xffff)) as Sum
}

/// The finalizer of MurmurHash3: each bit of the value reaches each bit of the result.
#[must_use]
#[inline(always)]
pub(crate) const fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod tests;
