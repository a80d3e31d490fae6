//! The two address families, so that a test of a rule that is the same for both is written once.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::{Key, Segment};
use crate::lab::{READER_VIP, READER_VIP6};

/// Where clients connect over IPv4.
pub const VIP: SocketAddr = SocketAddr::V4(SocketAddrV4::new(READER_VIP, 5432));
/// Where clients connect over IPv6.
pub const VIP6: SocketAddr = SocketAddr::V6(SocketAddrV6::new(READER_VIP6, 5432, 0, 0));

/// Ports that each address of [`client`] and [`client6`] has, and the first of them.
const PORTS: u32 = 32_768;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Both.
pub const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// One of two.
    pub fn pick<T>(self, ipv4: T, ipv6: T) -> T {
        match self {
            Self::Ipv4 => ipv4,
            Self::Ipv6 => ipv6,
        }
    }

    /// Where its clients connect.
    #[must_use]
    pub const fn vip(self) -> SocketAddr {
        match self {
            Self::Ipv4 => VIP,
            Self::Ipv6 => VIP6,
        }
    }

    /// The director's own address.
    #[must_use]
    pub fn host(self) -> IpAddr {
        self.pick(
            Ipv4Addr::new(10, 77, 0, 21).into(),
            Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x21).into(),
        )
    }

    /// An address that is no VIP, but that ends like [`Self::vip`].
    #[must_use]
    pub fn looks_like_vip(self) -> IpAddr {
        self.pick(
            Ipv4Addr::new(10, 99, 99, 100).into(),
            Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0x9900, 0x100).into(),
        )
    }

    /// A client by number: no two have the same address and port.
    #[must_use]
    pub fn client(self, number: u32) -> SocketAddr {
        match self {
            Self::Ipv4 => client(number),
            Self::Ipv6 => client6(number),
        }
    }

    /// A segment of that client to the VIP, with no flag set.
    #[must_use]
    pub fn segment(self, number: u32) -> Segment {
        Segment::new(self.client(number), self.vip())
    }

    /// The key of that client's flow.
    #[must_use]
    pub fn key(self, number: u32) -> Key {
        Key::new(self.client(number), self.vip())
    }

    /// Length of an IP header without options or extension headers.
    #[must_use]
    pub const fn header_length(self) -> usize {
        match self {
            Self::Ipv4 => 20,
            Self::Ipv6 => 40,
        }
    }

    /// Length of the headers before the data of a plain TCP segment.
    #[must_use]
    pub const fn headers(self) -> usize {
        14 + self.header_length() + 20
    }
}

/// A client by number: no two have the same address and port.
#[must_use]
pub fn client(number: u32) -> SocketAddr {
    let [_, a, b, c] = (number / PORTS).to_be_bytes();
    (Ipv4Addr::new(11, a, b, c), port(number)).into()
}

/// As [`client`], all of one network of 64 bits.
#[must_use]
pub fn client6(number: u32) -> SocketAddr {
    let [a, b, c, d] = (number / PORTS).to_be_bytes();
    let halves = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    (Ipv6Addr::new(0xfd11, 0, 0, 0, 0, 0, halves[0], halves[1]), port(number)).into()
}

fn port(number: u32) -> u16 {
    u16::try_from(PORTS + number % PORTS).unwrap_or_default()
}
