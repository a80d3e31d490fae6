//! What a frame says, as far as one line shows it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice};

/// The ends of a frame, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Who sent it, with port 0 where it has no ports.
    pub(crate) source: Option<SocketAddr>,
    /// Whom it is for, likewise.
    pub(crate) destination: Option<SocketAddr>,
    /// The flags of a TCP segment, else the protocol.
    pub(crate) what: String,
}

impl Decoded {
    /// Reads as much of a frame as can be read.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let Ok(packet) = LaxSlicedPacket::from_ethernet(bytes) else {
            return Self { source: None, destination: None, what: "frame".to_owned() };
        };
        let (ends, protocol) = addresses(packet.net.as_ref());
        let (ports, what) = match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                ((tcp.source_port(), tcp.destination_port()), flags(tcp))
            }
            Some(TransportSlice::Udp(udp)) => {
                ((udp.source_port(), udp.destination_port()), "UDP".to_owned())
            }
            Some(TransportSlice::Icmpv4(_)) => ((0, 0), "ICMP".to_owned()),
            Some(TransportSlice::Icmpv6(_)) => ((0, 0), "ICMPv6".to_owned()),
            Some(TransportSlice::Igmp(_)) => ((0, 0), "IGMP".to_owned()),
            None => ((0, 0), protocol.to_owned()),
        };
        let source = ends.map(|(source, _)| SocketAddr::new(source, ports.0));
        let destination = ends.map(|(_, destination)| SocketAddr::new(destination, ports.1));
        Self { source, destination, what }
    }

    /// Source and destination as a line shows them.
    pub(crate) fn ends(&self) -> String {
        let end = |end: Option<SocketAddr>| match end {
            None => "?".to_owned(),
            Some(end) if end.port() == 0 => end.ip().to_string(),
            Some(end) => end.to_string(),
        };
        format!("{} -> {}", end(self.source), end(self.destination))
    }
}

fn addresses(net: Option<&LaxNetSlice<'_>>) -> (Option<(IpAddr, IpAddr)>, &'static str) {
    match net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            (Some((header.source_addr().into(), header.destination_addr().into())), "IPv4")
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (Some((header.source_addr().into(), header.destination_addr().into())), "IPv6")
        }
        Some(LaxNetSlice::Arp(arp)) => {
            let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
            let ends = address(arp.sender_protocol_addr()).zip(address(arp.target_protocol_addr()));
            (ends, "ARP")
        }
        None => (None, "frame"),
    }
}

fn flags(tcp: &TcpSlice<'_>) -> String {
    let flags = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
    ];
    let set: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if set.is_empty() { "no flags".to_owned() } else { set.join(",") }
}
