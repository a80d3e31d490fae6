//! ICMP messages of both families.
use std::net::IpAddr;

use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber};

use super::super::{CLIENT_MAC, DIRECTOR_MAC};
use super::Ip;

/// Types of messages (RFC 792, RFC 4443, RFC 4861).
pub mod kind {
    /// Echo request over IPv4.
    pub const ECHO_REQUEST: u8 = 8;
    /// Echo reply over IPv4.
    pub const ECHO_REPLY: u8 = 0;
    /// Echo request over IPv6.
    pub const ECHO_REQUEST6: u8 = 128;
    /// Echo reply over IPv6.
    pub const ECHO_REPLY6: u8 = 129;
    /// Neighbour solicitation.
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERTISEMENT: u8 = 136;
}

/// What went wrong with a packet, where the families have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Destination unreachable, with that code.
    Unreachable(u8),
    /// Fragmentation needed, or packet too big: the MTU is that.
    TooBig(u16),
    /// Time exceeded on the way.
    TimeExceeded,
    /// A byte of the header is wrong.
    ParameterProblem,
}

impl ErrorKind {
    /// One of each, and the codes of unreachable that matter to TCP.
    pub const ALL: [Self; 6] = [
        Self::Unreachable(1),
        Self::Unreachable(3),
        Self::TooBig(1400),
        Self::TooBig(0),
        Self::TimeExceeded,
        Self::ParameterProblem,
    ];

    /// Type, code and the four bytes after the checksum.
    fn over_ipv4(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::Unreachable(code) => (3, code, [0; 4]),
            Self::TooBig(mtu) => (3, 4, u32::from(mtu).to_be_bytes()),
            Self::TimeExceeded => (11, 0, [0; 4]),
            Self::ParameterProblem => (12, 0, [1, 0, 0, 0]),
        }
    }

    fn over_ipv6(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::Unreachable(code) => (1, code, [0; 4]),
            Self::TooBig(mtu) => (2, 0, u32::from(mtu).to_be_bytes()),
            Self::TimeExceeded => (3, 0, [0; 4]),
            Self::ParameterProblem => (4, 0, [0, 0, 0, 6]),
        }
    }
}

/// An ICMP message to the director.
#[derive(Clone, Debug)]
pub struct Icmp {
    /// MAC address it is sent to.
    pub destination: [u8; 6],
    /// MAC address it comes from.
    pub source: [u8; 6],
    /// IP header.
    pub ip: Ip,
    /// Its type, as one of [`kind`].
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four bytes after the checksum.
    pub rest: [u8; 4],
    /// What follows them.
    pub body: Vec<u8>,
}

impl Icmp {
    /// A message of any type and of code 0, without a body.
    #[must_use]
    pub fn new(from: IpAddr, to: IpAddr, kind: u8) -> Self {
        let carried = if from.is_ipv4() { IpNumber::ICMP } else { IpNumber::IPV6_ICMP };
        Self {
            destination: DIRECTOR_MAC,
            source: CLIENT_MAC,
            ip: Ip::new(from, to, carried),
            kind,
            code: 0,
            rest: [0; 4],
            body: Vec::new(),
        }
    }

    /// An echo request with that many bytes of data, all different from their neighbours.
    #[must_use]
    pub fn echo_request(from: IpAddr, to: IpAddr, length: usize) -> Self {
        let kind = if from.is_ipv4() { kind::ECHO_REQUEST } else { kind::ECHO_REQUEST6 };
        let body = (0..=u8::MAX).cycle().skip(3).take(length).collect();
        // Identifier and sequence number.
        Self { rest: [0x12, 0x34, 0, 7], body, ..Self::new(from, to, kind) }
    }

    /// A message that something went wrong with the packet whose first bytes are `quoted`, from a
    /// router or host on its way to where the packet came from.
    #[must_use]
    pub fn error(error: ErrorKind, from: IpAddr, to: IpAddr, quoted: &[u8]) -> Self {
        let (kind, code, rest) = if from.is_ipv4() { error.over_ipv4() } else { error.over_ipv6() };
        Self { code, rest, body: quoted.to_vec(), ..Self::new(from, to, kind) }
    }

    /// Changed by `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The message, its checksum made right.
    ///
    /// # Panics
    /// With a body that no packet holds.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let (type_u8, code_u8, bytes5to8) = (self.kind, self.code, self.rest);
        let header = match &self.ip {
            Ip::V4(_) => {
                let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
                Icmpv4Header::with_checksum(kind, &self.body).to_bytes().to_vec()
            }
            Ip::V6(ip, _) => {
                let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
                Icmpv6Header::with_checksum(kind, ip.source, ip.destination, &self.body)
                    .expect("a message of legal length")
                    .to_bytes()
                    .to_vec()
            }
        };
        [header.as_slice(), &self.body].concat()
    }

    /// Its bytes.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.ip.frame(self.destination, self.source, &self.message())
    }
}
