//! Frames, written by etherparse: none of it shares code with the program under test.
use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, TcpHeader};

use super::{CLIENT_MAC, DIRECTOR_MAC};

/// A TCP segment from a client, by way of the director.
#[derive(Clone, Debug)]
pub struct Segment {
    /// MAC address it is sent to.
    pub destination: [u8; 6],
    /// MAC address it comes from.
    pub source: [u8; 6],
    /// IPv4 header; length and checksum are those of the frame when it is written.
    pub ipv4: Ipv4Header,
    /// TCP header; its checksum as well.
    pub tcp: TcpHeader,
    /// Data it carries.
    pub data: Vec<u8>,
}

impl Segment {
    /// A segment with no flag set.
    #[must_use]
    pub fn new(client: SocketAddrV4, vip: SocketAddrV4) -> Self {
        Self {
            destination: DIRECTOR_MAC,
            source: CLIENT_MAC,
            ipv4: ipv4_header(*client.ip(), *vip.ip(), IpNumber::TCP),
            tcp: TcpHeader::new(client.port(), vip.port(), 1000, 64_240),
            data: Vec::new(),
        }
    }

    /// With SYN.
    #[must_use]
    pub fn syn(mut self) -> Self {
        self.tcp.syn = true;
        self
    }

    /// With ACK, of what came before `number`.
    #[must_use]
    pub fn ack(mut self, number: u32) -> Self {
        self.tcp.ack = true;
        self.tcp.acknowledgment_number = number;
        self
    }

    /// With FIN.
    #[must_use]
    pub fn fin(mut self) -> Self {
        self.tcp.fin = true;
        self
    }

    /// With RST.
    #[must_use]
    pub fn rst(mut self) -> Self {
        self.tcp.rst = true;
        self
    }

    /// From that sequence number on.
    #[must_use]
    pub fn sequence(mut self, number: u32) -> Self {
        self.tcp.sequence_number = number;
        self
    }

    /// With that many bytes of data.
    #[must_use]
    pub fn data(mut self, length: usize) -> Self {
        self.data = vec![0x5a; length];
        self
    }

    /// Changed by `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut tcp = self.tcp.clone();
        tcp.checksum =
            tcp.calc_checksum_ipv4(&self.ipv4, &self.data).expect("a segment of legal length");
        let payload = [tcp.to_bytes().as_slice(), &self.data].concat();
        ipv4_frame(self.destination, self.source, self.ipv4.clone(), &payload)
    }
}

/// A frame with an IPv4 packet, its length and checksum made right.
#[must_use]
pub fn ipv4_frame(
    destination: [u8; 6],
    source: [u8; 6],
    mut header: Ipv4Header,
    payload: &[u8],
) -> Vec<u8> {
    header.set_payload_len(payload.len()).expect("a packet of legal length");
    header.header_checksum = header.calc_header_checksum();
    let packet = [header.to_bytes().as_slice(), payload].concat();
    ethernet(destination, source, EtherType::IPV4.0, &packet)
}

/// An IPv4 header of a packet that may not be fragmented.
#[must_use]
pub fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, carried: IpNumber) -> Ipv4Header {
    let mut header = Ipv4Header::new(0, 64, carried, source.octets(), destination.octets())
        .expect("a packet of legal length");
    header.dont_fragment = true;
    header
}

/// A frame of any kind.
#[must_use]
pub fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header { destination, source, ether_type: EtherType(ethertype) };
    [header.to_bytes().as_slice(), payload].concat()
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
