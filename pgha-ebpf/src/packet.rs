//! The ways from an IP header to what the packet carries: where the two families differ.

use aya_ebpf::programs::XdpContext;
use pgha_common::family::{Family, V4, V6};
use pgha_common::verdict::Reason;
use pgha_common::wire::{Extension, Ipv4, Ipv6};

use crate::frame;

/// IPv6 extension headers that are looked at, for one packet.
const EXTENSIONS: usize = 4;

/// What a packet carries.
pub(crate) struct Carried {
    /// Protocol number.
    pub(crate) protocol: u8,
    /// Where it begins in the frame.
    pub(crate) at: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

/// A family's packets.
pub(crate) trait Packet: Family {
    /// Whether the header is one at all.
    fn is_valid(header: &Self::Header) -> bool;

    /// Length of the packet in bytes, as its header says.
    fn length(header: &Self::Header) -> usize;

    /// Whether its header says that it is a part of a packet, a first one too.
    fn is_fragment(header: &Self::Header) -> bool;

    /// Finds what the packet at `at` carries.
    ///
    /// # Errors
    /// The reason for which that cannot be told.
    fn carried(context: &XdpContext, at: usize, header: &Self::Header) -> Result<Carried, Reason>;
}

impl Packet for V4 {
    #[inline(always)]
    fn is_valid(header: &Ipv4) -> bool {
        header.version() == 4 && header.header_length() >= size_of::<Ipv4>()
    }

    #[inline(always)]
    fn length(header: &Ipv4) -> usize {
        usize::from(u16::from_be_bytes(header.total_length))
    }

    #[inline(always)]
    fn is_fragment(header: &Ipv4) -> bool {
        header.is_fragment()
    }

    #[inline(always)]
    fn carried(_: &XdpContext, at: usize, header: &Ipv4) -> Result<Carried, Reason> {
        if header.is_later_fragment() {
            return Err(Reason::Fragment);
        }
        let (begin, end) = (at + header.header_length(), at + Self::length(header));
        if begin > end {
            return Err(Reason::Truncated);
        }
        Ok(Carried { protocol: header.protocol, at: begin, end })
    }
}

impl Packet for V6 {
    #[inline(always)]
    fn is_valid(header: &Ipv6) -> bool {
        header.version() == 6
    }

    #[inline(always)]
    fn length(header: &Ipv6) -> usize {
        size_of::<Ipv6>() + usize::from(u16::from_be_bytes(header.payload_length))
    }

    /// IPv6 says so in an extension header.
    #[inline(always)]
    fn is_fragment(_: &Ipv6) -> bool {
        false
    }

    #[inline(always)]
    fn carried(context: &XdpContext, at: usize, header: &Ipv6) -> Result<Carried, Reason> {
        let end = at + Self::length(header);
        let (mut protocol, mut begin) = (header.next_header, at + size_of::<Ipv6>());
        for _ in 0..=EXTENSIONS {
            match protocol {
                Extension::HOP_BY_HOP | Extension::ROUTING | Extension::DESTINATION => {
                    let Some(extension) = frame::at::<Extension>(context, begin) else {
                        return Err(Reason::Truncated);
                    };
                    protocol = extension.next_header;
                    begin += extension.bytes();
                }
                Extension::FRAGMENT => return Err(Reason::Fragment),
                _ if begin > end => return Err(Reason::Truncated),
                _ => return Ok(Carried { protocol, at: begin, end }),
            }
        }
        Err(Reason::ExtensionHeaders)
    }
}
