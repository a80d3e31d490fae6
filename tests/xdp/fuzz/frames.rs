//! Frames that a client, a router or another host could send, and almost such frames.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::IpNumber;
use pgha_tests::dataplane::frame::{
    ErrorKind, Extension, Ip, SERVICE_TAG, TAG, advertisement, flag, solicitation,
    unicast_solicitation,
};
use pgha_tests::dataplane::{
    CLIENT_MAC, DIRECTOR_MAC, FAMILIES, Family, Icmp, Random, Segment, arp_frame, ethernet, tagged,
};
use pgha_tests::lab::{READER_VIP, READER_VIP6};

use crate::harness::{PEER_MAC, peer};

/// The port of the service that is restricted and limited.
pub(super) const GUARDED_PORT: u16 = 6432;

/// How many ports each client has here, and how many addresses there are.
const PORTS: usize = 12;
const ADDRESSES: usize = 4;

/// Whoever sends what comes next.
pub(super) struct Sender<'a>(pub(super) &'a mut Random);

impl Sender<'_> {
    /// The next frame.
    pub(super) fn frame(&mut self) -> Vec<u8> {
        let family = self.0.of(&FAMILIES);
        let mut frame = match self.0.below(24) {
            0..=11 => self.segment(family).frame(),
            12 => self.echo(family).frame(),
            13 | 14 => self.error(family).frame(),
            15 => self.other_icmp(family).frame(),
            16 => self.arp(),
            17 | 18 => self.neighbour().frame(),
            19 => self.cut_short(family),
            20 => self.other_protocol(family),
            21 => self.noise(),
            // Of a connection from its beginning on, so that many are established.
            _ => self.plain(family).frame(),
        };
        if self.0.one_in(8) {
            frame = self.with_tags(&frame);
        }
        if self.0.one_in(3) {
            self.mutate(&mut frame);
        }
        frame
    }

    fn client(&mut self, family: Family) -> SocketAddr {
        let number = self.0.below(ADDRESSES) * 32_768 + self.0.below(PORTS);
        family.client(u32::try_from(number).unwrap())
    }

    fn service(&mut self, family: Family) -> SocketAddr {
        let port = self.0.of(&[5432, 5432, 5432, GUARDED_PORT, GUARDED_PORT, 5433]);
        SocketAddr::new(family.vip().ip(), port)
    }

    /// A SYN, or an acknowledgement of more and more.
    fn plain(&mut self, family: Family) -> Segment {
        let segment = Segment::new(self.client(family), family.vip());
        if self.0.one_in(4) { segment.syn() } else { segment.ack(self.0.below(5000) as u32) }
    }

    fn segment(&mut self, family: Family) -> Segment {
        let (client, service) = (self.client(family), self.service(family));
        let mut segment = Segment::new(client, service).data(self.0.of(&[0, 0, 1, 6, 100, 1400]));
        let flags = self.0.bits();
        segment.tcp.syn = flags.is_multiple_of(4);
        segment.tcp.ack = !segment.tcp.syn || flags & 0x300 == 0;
        segment.tcp.fin = flags & 0x7000 == 0;
        segment.tcp.rst = flags & 0x70000 == 0;
        segment.tcp.psh = flags & 0x80000 == 0;
        if self.0.one_in(100) {
            let on = self.0.one_in(2);
            let tcp = &mut segment.tcp;
            (tcp.syn, tcp.ack, tcp.fin, tcp.rst, tcp.psh, tcp.urg) = (on, on, on, on, on, on);
        }
        segment.tcp.acknowledgment_number = self.0.of(&[0, 1, 1000, 5000, u32::MAX]);
        segment.tcp.set_options_raw(&vec![1; self.0.of(&[0, 0, 12, 40])]).unwrap();
        if self.0.one_in(16) {
            segment.source = PEER_MAC;
            if self.0.one_in(2) {
                segment.ip.set_source(peer(family));
            }
        }
        if self.0.one_in(24) {
            segment.destination = self.0.of(&[PEER_MAC, [0xff; 6], [0; 6]]);
        }
        self.headers(family, &mut segment.ip);
        segment
    }

    /// Options, extension headers, hops, addresses.
    fn headers(&mut self, family: Family, ip: &mut Ip) {
        if self.0.one_in(6) {
            ip.set_options(self.0.of(&[8, 24, 40]));
        }
        if family == Family::Ipv6 && self.0.one_in(12) {
            let count = self.0.of(&[1, 2, 3, 4, 12]);
            let extensions = [
                Extension::hop_by_hop(8),
                Extension::routing(16),
                Extension::destination_options(24),
            ];
            for _ in 0..count {
                let next = extensions[self.0.below(extensions.len())].clone();
                ip.extensions_mut().push(next);
            }
        }
        if self.0.one_in(24) {
            ip.set_fragment(self.0.of(&[0, 1, 100]), self.0.one_in(2));
        }
        if self.0.one_in(24) {
            ip.set_hops(self.0.of(&[0, 1, 2, 255]));
        }
        if self.0.one_in(16) {
            let choices = [family.looks_like_vip(), family.host(), peer(family)];
            ip.set_destination(self.0.of(&choices));
        }
        if self.0.one_in(24) {
            ip.set_source(family.vip().ip());
        }
    }

    fn echo(&mut self, family: Family) -> Icmp {
        let client = self.client(family).ip();
        let length = self.0.of(&[0, 1, 56, 57, 1400]);
        let mut echo = Icmp::echo_request(client, family.vip().ip(), length);
        self.headers(family, &mut echo.ip);
        echo
    }

    /// An error that quotes a segment of a server, or a part of one, or none.
    fn error(&mut self, family: Family) -> Icmp {
        let (client, service) = (self.client(family), self.service(family));
        let mut sent = Segment::new(service, client).ack(7).data(20);
        if self.0.one_in(4) {
            self.headers(family, &mut sent.ip);
        }
        let mut quoted = sent.packet();
        if self.0.one_in(2) {
            quoted.truncate(sent.ip.length() + self.0.of(&[0, 4, 7, 8, 20]));
        }
        let kind = self.0.of(&ErrorKind::ALL);
        let mut error = Icmp::error(kind, client.ip(), family.vip().ip(), &quoted);
        if self.0.one_in(4) {
            self.headers(family, &mut error.ip);
        }
        error
    }

    fn other_icmp(&mut self, family: Family) -> Icmp {
        let client = self.client(family).ip();
        let mut message = Icmp::new(client, family.vip().ip(), self.0.byte());
        (message.rest, message.body) = ([0, 1, 0, 0], vec![self.0.byte(); self.0.below(40)]);
        message
    }

    fn arp(&mut self) -> Vec<u8> {
        let IpAddr::V4(client) = self.client(Family::Ipv4).ip() else { unreachable!() };
        let sender = self.0.of(&[client, client, READER_VIP]);
        let target = self.0.of(&[READER_VIP, READER_VIP, client]);
        let operation = self.0.of(&[1, 1, 1, 2]);
        let mac = self.0.of(&[CLIENT_MAC, CLIENT_MAC, DIRECTOR_MAC]);
        arp_frame(operation, (mac, sender), ([0; 6], target))
    }

    fn neighbour(&mut self) -> Icmp {
        let IpAddr::V6(client) = self.client(Family::Ipv6).ip() else { unreachable!() };
        let address = self.0.of(&[client, client, READER_VIP6, Ipv6Addr::UNSPECIFIED]);
        let sender = (self.0.of(&[CLIENT_MAC, CLIENT_MAC, DIRECTOR_MAC]), address);
        let target = self.0.of(&[READER_VIP6, READER_VIP6, client]);
        let mut message = match self.0.below(3) {
            0 => solicitation(sender, target),
            1 => unicast_solicitation(sender, (DIRECTOR_MAC, target)),
            _ => advertisement(sender, target, self.0.of(&[0, flag::OVERRIDE, flag::SOLICITED])),
        };
        if self.0.one_in(8) {
            self.headers(Family::Ipv6, &mut message.ip);
        }
        message
    }

    /// A packet whose lengths agree, and whose message is not whole.
    fn cut_short(&mut self, family: Family) -> Vec<u8> {
        let (message, ip) = match self.0.below(3) {
            0 => {
                let segment = self.segment(family);
                (segment.payload(), segment.ip)
            }
            1 => {
                let echo = self.echo(family);
                (echo.message(), echo.ip)
            }
            _ => {
                let error = self.error(family);
                (error.message(), error.ip)
            }
        };
        let length = self.0.below(message.len().min(60));
        ip.frame(DIRECTOR_MAC, CLIENT_MAC, &message[..length])
    }

    fn other_protocol(&mut self, family: Family) -> Vec<u8> {
        let client = self.client(family).ip();
        let carried = IpNumber(self.0.of(&[0, 17, 43, 44, 50, 51, 58, 59, 60, 1, 4, 41, 132]));
        let ip = Ip::new(client, family.vip().ip(), carried);
        let payload: Vec<_> = (0..self.0.below(80)).map(|_| self.0.byte()).collect();
        ip.frame(DIRECTOR_MAC, CLIENT_MAC, &payload)
    }

    /// Anything, now and then with an EtherType that is looked at.
    fn noise(&mut self) -> Vec<u8> {
        let payload: Vec<_> = (0..self.0.below(150)).map(|_| self.0.byte()).collect();
        let random = u16::from_be_bytes([self.0.byte(), self.0.byte()]);
        let kind = self.0.of(&[0x800, 0x86dd, 0x806, TAG, SERVICE_TAG, random]);
        ethernet(DIRECTOR_MAC, CLIENT_MAC, kind, &payload)
    }

    fn with_tags(&mut self, frame: &[u8]) -> Vec<u8> {
        let control = u16::from_be_bytes([self.0.byte(), self.0.byte()]);
        let once = tagged(frame, self.0.of(&[TAG, TAG, TAG, SERVICE_TAG]), control);
        if self.0.one_in(6) { tagged(&once, self.0.of(&[TAG, SERVICE_TAG]), 9) } else { once }
    }

    /// Bytes changed, cut off, added.
    fn mutate(&mut self, frame: &mut Vec<u8>) {
        for _ in 0..self.0.of(&[0, 1, 1, 2, 5]) {
            // Headers more than data.
            let end = if self.0.one_in(3) { frame.len() } else { frame.len().min(90) };
            let at = self.0.below(end);
            frame[at] = match self.0.below(3) {
                0 => self.0.byte(),
                1 => frame[at] ^ 1 << self.0.below(8),
                _ => self.0.of(&[0, 1, 0x7f, 0x80, 0xff]),
            };
        }
        match self.0.below(6) {
            0 => frame.truncate(14 + self.0.below(frame.len() - 13)),
            1 => frame.extend((0..self.0.below(64)).map(|_| 0)),
            _ => {}
        }
    }
}
