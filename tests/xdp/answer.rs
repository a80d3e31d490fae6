//! What an answer of the program must be, read by etherparse.

use std::net::IpAddr;

use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use pgha_common::verdict::Reason;
use pgha_tests::dataplane::assert_checksums;
use pgha_tests::dataplane::frame::has_right_checksums;

use crate::harness::Outcome;

/// Asserts that an answer is what its reason says, back to where the frame came from.
#[track_caller]
pub(crate) fn assert_answer(asked: &[u8], answer: &Outcome) {
    if matches!(answer.reason, Reason::NoServer | Reason::DeadServer) {
        assert_reset(asked, &answer.frame);
    } else if answer.reason == Reason::EchoAnswered {
        assert_echo(asked, &answer.frame);
    }
}

/// Asserts that `answer` is a RST to the sender of `asked`, correct in every byte: exactly the
/// sequence number that makes the client take it (RFC 9293, section 3.10.7.1).
#[track_caller]
fn assert_reset(asked: &[u8], answer: &[u8]) {
    assert_checksums(answer);
    let reset = Read::of(answer).unwrap();
    // What etherparse does not read in this way: extension headers in an order of chance.
    let Some(asked) = Read::of(asked) else { return };
    reset.assert_turned(&asked);
    let ip_header = if reset.addresses.0.is_ipv4() { 20 } else { 40 };
    assert_eq!(answer.len(), 14 + 4 * reset.tags.len() + ip_header + 20);
    let (to, from) = (asked.tcp(), reset.tcp());
    assert_eq!(
        (from.source_port(), from.destination_port()),
        (to.destination_port(), to.source_port())
    );
    assert!(from.rst() && !from.syn() && !from.fin() && !from.psh() && !from.urg());
    if to.ack() {
        assert!(!from.ack());
        assert_eq!(from.sequence_number(), to.acknowledgment_number());
    } else {
        let length = u32::try_from(to.payload().len()).unwrap();
        let end = to.sequence_number().wrapping_add(length);
        let end = end.wrapping_add(u32::from(to.syn())).wrapping_add(u32::from(to.fin()));
        assert!(from.ack());
        assert_eq!((from.sequence_number(), from.acknowledgment_number()), (0, end));
    }
    assert!(from.payload().is_empty());
}

/// Asserts that `answer` is the echo reply to `asked`: identifier, sequence number and data are its.
#[track_caller]
fn assert_echo(asked: &[u8], answer: &[u8]) {
    // It is made right out of a right one: what was damaged on its way stays so.
    if has_right_checksums(asked) == Some(true) {
        assert_checksums(answer);
    }
    // What etherparse does not read: extension headers in an order of chance, which the reply keeps.
    let (Some(asked), Some(reply)) = (Read::of(asked), Read::of(answer)) else { return };
    reply.assert_turned(&asked);
    let (request, reply) = (asked.icmp(), reply.icmp());
    let (kind, code) = if asked.addresses.0.is_ipv4() { (0, 0) } else { (129, 0) };
    assert_eq!(reply[..2], [kind, code]);
    assert_eq!(reply[4..], request[4..]);
}

/// What of a frame an answer has to do with.
struct Read<'a> {
    macs: ([u8; 6], [u8; 6]),
    /// The 802.1Q tags, as they lie.
    tags: Vec<&'a [u8]>,
    addresses: (IpAddr, IpAddr),
    /// TTL or hop limit.
    hops: u8,
    transport: TransportSlice<'a>,
}

impl<'a> Read<'a> {
    /// `None` when it is no whole packet.
    fn of(frame: &'a [u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { return None };
        let (addresses, hops) = match packet.net? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                ((header.source_addr().into(), header.destination_addr().into()), header.ttl())
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let addresses = (header.source_addr().into(), header.destination_addr().into());
                (addresses, header.hop_limit())
            }
            NetSlice::Arp(_) => return None,
        };
        let tags = 0..packet.link_exts.len();
        Some(Self {
            macs: (ethernet.destination(), ethernet.source()),
            tags: tags.map(|tag| &frame[12 + 4 * tag..16 + 4 * tag]).collect(),
            addresses,
            hops,
            transport: packet.transport?,
        })
    }

    /// Asserts that this goes back to where `asked` came from, with the tags of that.
    #[track_caller]
    fn assert_turned(&self, asked: &Self) {
        assert_eq!(self.macs, (asked.macs.1, asked.macs.0));
        assert_eq!(self.tags, asked.tags);
        assert_eq!(self.addresses, (asked.addresses.1, asked.addresses.0));
        assert!(self.hops >= 64, "{} hops may not be enough", self.hops);
    }

    #[track_caller]
    fn tcp(&self) -> &etherparse::TcpSlice<'a> {
        let TransportSlice::Tcp(tcp) = &self.transport else { panic!("no TCP") };
        tcp
    }

    /// The whole ICMP message.
    #[track_caller]
    fn icmp(&self) -> &'a [u8] {
        match &self.transport {
            TransportSlice::Icmpv4(icmp) => icmp.slice(),
            TransportSlice::Icmpv6(icmp) => icmp.slice(),
            TransportSlice::Tcp(_) | TransportSlice::Udp(_) | TransportSlice::Igmp(_) => {
                panic!("no ICMP: {:?}", self.transport)
            }
        }
    }
}
