//! IP packets of both families, with what may stand before their payload.
use std::net::IpAddr;

use etherparse::{EtherType, IpNumber, Ipv4Header, Ipv6Header};

use super::ethernet;

/// An IP header. Lengths and checksum are those of the packet when it is written.
#[derive(Clone, Debug)]
pub enum Ip {
    /// With its options.
    V4(Ipv4Header),
    /// With its extension headers in their order; the header's `next_header` is what comes after
    /// them.
    V6(Ipv6Header, Vec<Extension>),
}

/// An IPv6 extension header (RFC 8200, section 4).
#[derive(Clone, Debug)]
pub struct Extension {
    /// Which.
    kind: IpNumber,
    /// Its second byte: length in 8 bytes without the first 8, or reserved.
    second: u8,
    /// What follows the first two bytes.
    body: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options of that many bytes in all, a multiple of 8.
    #[must_use]
    pub fn hop_by_hop(length: usize) -> Self {
        Self::padding(IpNumber::IPV6_HEADER_HOP_BY_HOP, length)
    }

    /// Destination options of that many bytes in all, a multiple of 8.
    #[must_use]
    pub fn destination_options(length: usize) -> Self {
        Self::padding(IpNumber::IPV6_DESTINATION_OPTIONS, length)
    }

    /// A routing header of that many bytes in all, a multiple of 8, with no segments left.
    #[must_use]
    pub fn routing(length: usize) -> Self {
        // An unknown type without segments left is skipped by whoever receives it (RFC 8200, 4.4).
        Self::of(IpNumber::IPV6_ROUTE_HEADER, [253, 0].into(), length)
    }

    /// A fragment header: offset in 8 bytes, and whether more fragments follow.
    #[must_use]
    pub fn fragment(offset: u16, more: bool) -> Self {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        let body = vec![high, low, 0, 0, 0, 7];
        Self { kind: IpNumber::IPV6_FRAGMENTATION_HEADER, second: 0, body }
    }

    fn padding(kind: IpNumber, length: usize) -> Self {
        // PadN options of at most 255 bytes of data each (RFC 8200, section 4.2).
        let mut body = Vec::new();
        while body.len() < length - 2 {
            let data = (length - 2 - body.len() - 2).min(252);
            body.extend([1, u8::try_from(data).unwrap_or_default()]);
            body.resize(body.len() + data, 0);
        }
        Self::of(kind, body, length)
    }

    fn of(kind: IpNumber, mut body: Vec<u8>, length: usize) -> Self {
        assert!(length.is_multiple_of(8) && length >= 8, "no length of an extension header");
        body.resize(length - 2, 0);
        let second = u8::try_from(length / 8 - 1).expect("a legal length");
        Self { kind, second, body }
    }

    fn length(&self) -> usize {
        2 + self.body.len()
    }
}

impl Ip {
    /// A packet from one address to another of the same family, which may not be fragmented.
    ///
    /// # Panics
    /// When the families differ.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr, carried: IpNumber) -> Self {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses = (source.octets(), destination.octets());
                let mut header = Ipv4Header::new(0, 64, carried, addresses.0, addresses.1)
                    .expect("a packet of legal length");
                header.dont_fragment = true;
                Self::V4(header)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    next_header: carried,
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                Self::V6(header, Vec::new())
            }
            families => panic!("two families: {families:?}"),
        }
    }

    /// The IPv4 header.
    ///
    /// # Panics
    /// When it is IPv6.
    pub fn ipv4_mut(&mut self) -> &mut Ipv4Header {
        match self {
            Self::V4(header) => header,
            Self::V6(..) => panic!("no IPv4 header: {self:?}"),
        }
    }

    /// The IPv6 header.
    ///
    /// # Panics
    /// When it is IPv4.
    pub fn ipv6_mut(&mut self) -> &mut Ipv6Header {
        match self {
            Self::V6(header, _) => header,
            Self::V4(_) => panic!("no IPv6 header: {self:?}"),
        }
    }

    /// The IPv6 extension headers.
    ///
    /// # Panics
    /// When it is IPv4.
    pub fn extensions_mut(&mut self) -> &mut Vec<Extension> {
        match self {
            Self::V6(_, extensions) => extensions,
            Self::V4(_) => panic!("no IPv6 header: {self:?}"),
        }
    }

    /// Puts that many bytes, a multiple of 8, before the payload: IPv4 options, of which there are
    /// at most 40, or IPv6 destination options.
    ///
    /// # Panics
    /// When there can be no such options.
    pub fn set_options(&mut self, length: usize) {
        match self {
            // No operation (RFC 791, section 3.1).
            Self::V4(header) => {
                header.options = vec![1; length].as_slice().try_into().expect("40 bytes at most");
            }
            Self::V6(_, extensions) => {
                extensions.clear();
                if length > 0 {
                    extensions.push(Extension::destination_options(length));
                }
            }
        }
    }

    /// Its sender.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        match self {
            Self::V4(header) => header.source.into(),
            Self::V6(header, _) => header.source.into(),
        }
    }

    /// Its receiver.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        match self {
            Self::V4(header) => header.destination.into(),
            Self::V6(header, _) => header.destination.into(),
        }
    }

    /// Sends it from another address of its family.
    ///
    /// # Panics
    /// When that is of the other one.
    pub fn set_source(&mut self, address: IpAddr) {
        match (self, address) {
            (Self::V4(header), IpAddr::V4(address)) => header.source = address.octets(),
            (Self::V6(header, _), IpAddr::V6(address)) => header.source = address.octets(),
            families => panic!("two families: {families:?}"),
        }
    }

    /// Sends it to another address of its family.
    ///
    /// # Panics
    /// When that is of the other one.
    pub fn set_destination(&mut self, address: IpAddr) {
        match (self, address) {
            (Self::V4(header), IpAddr::V4(address)) => header.destination = address.octets(),
            (Self::V6(header, _), IpAddr::V6(address)) => header.destination = address.octets(),
            families => panic!("two families: {families:?}"),
        }
    }

    /// Its time to live, or hop limit.
    pub fn set_hops(&mut self, hops: u8) {
        match self {
            Self::V4(header) => header.time_to_live = hops,
            Self::V6(header, _) => header.hop_limit = hops,
        }
    }

    /// Its type of service, or traffic class.
    ///
    /// # Panics
    /// Never: every byte is one.
    pub fn set_traffic_class(&mut self, class: u8) {
        match self {
            Self::V4(header) => {
                header.dscp = (class >> 2).try_into().expect("6 bits");
                header.ecn = (class & 3).try_into().expect("2 bits");
            }
            Self::V6(header, _) => header.traffic_class = class,
        }
    }

    /// What it carries, behind options and extension headers.
    pub fn set_carried(&mut self, carried: IpNumber) {
        match self {
            Self::V4(header) => header.protocol = carried,
            Self::V6(header, _) => header.next_header = carried,
        }
    }

    /// Makes it the first or a later fragment of a larger packet: offset in 8 bytes, and whether more
    /// follow.
    ///
    /// # Panics
    /// With an offset of more than 13 bits.
    pub fn set_fragment(&mut self, offset: u16, more: bool) {
        match self {
            Self::V4(header) => {
                header.dont_fragment = false;
                header.more_fragments = more;
                header.fragment_offset = offset.try_into().expect("13 bits");
            }
            Self::V6(_, extensions) => extensions.push(Extension::fragment(offset, more)),
        }
    }

    /// How many bytes stand before its payload.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Self::V4(header) => header.header_len(),
            Self::V6(header, extensions) => {
                header.header_len() + extensions.iter().map(Extension::length).sum::<usize>()
            }
        }
    }

    /// The packet with that payload, its lengths and its checksum made right.
    ///
    /// # Panics
    /// With a payload that is too long.
    #[must_use]
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::V4(header) => {
                let mut header = header.clone();
                header.set_payload_len(payload.len()).expect("a packet of legal length");
                header.header_checksum = header.calc_header_checksum();
                [header.to_bytes().as_slice(), payload].concat()
            }
            Self::V6(header, extensions) => {
                let rest = chained(extensions, header.next_header, payload);
                let mut header = header.clone();
                header.set_payload_length(rest.len()).expect("a packet of legal length");
                header.next_header = extensions.first().map_or(header.next_header, |e| e.kind);
                [header.to_bytes().as_slice(), &rest].concat()
            }
        }
    }

    /// A frame with [`Self::packet`].
    #[must_use]
    pub fn frame(&self, destination: [u8; 6], source: [u8; 6], payload: &[u8]) -> Vec<u8> {
        let ethertype = match self {
            Self::V4(_) => EtherType::IPV4,
            Self::V6(..) => EtherType::IPV6,
        };
        ethernet(destination, source, ethertype.0, &self.packet(payload))
    }
}

/// Extension headers, each naming the next, and the payload behind them.
fn chained(extensions: &[Extension], carried: IpNumber, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, extension) in extensions.iter().enumerate() {
        let next = extensions.get(number + 1).map_or(carried, |next| next.kind);
        bytes.extend([next.0, extension.second]);
        bytes.extend(&extension.body);
    }
    bytes.extend(payload);
    bytes
}
