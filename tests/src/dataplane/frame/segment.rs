//! TCP segments.
use std::net::SocketAddr;

use etherparse::{IpNumber, TcpHeader};

use super::super::{CLIENT_MAC, DIRECTOR_MAC};
use super::Ip;

/// A TCP segment from a client, by way of the director.
#[derive(Clone, Debug)]
pub struct Segment {
    /// MAC address it is sent to.
    pub destination: [u8; 6],
    /// MAC address it comes from.
    pub source: [u8; 6],
    /// IP header.
    pub ip: Ip,
    /// TCP header; its checksum is that of the frame when it is written.
    pub tcp: TcpHeader,
    /// Data it carries.
    pub data: Vec<u8>,
}

impl Segment {
    /// A segment with no flag set.
    #[must_use]
    pub fn new(client: SocketAddr, vip: SocketAddr) -> Self {
        Self {
            destination: DIRECTOR_MAC,
            source: CLIENT_MAC,
            ip: Ip::new(client.ip(), vip.ip(), IpNumber::TCP),
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

    /// The TCP header and the data.
    ///
    /// # Panics
    /// With more data than a packet holds.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut tcp = self.tcp.clone();
        let checksum = match &self.ip {
            Ip::V4(header) => tcp.calc_checksum_ipv4(header, &self.data),
            Ip::V6(header, _) => tcp.calc_checksum_ipv6(header, &self.data),
        };
        tcp.checksum = checksum.expect("a segment of legal length");
        [tcp.to_bytes().as_slice(), &self.data].concat()
    }

    /// Its IP packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        self.ip.packet(&self.payload())
    }

    /// Its bytes.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.ip.frame(self.destination, self.source, &self.payload())
    }
}
