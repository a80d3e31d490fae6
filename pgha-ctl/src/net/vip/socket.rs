//! Packet sockets (packet(7)) for what is said about addresses.

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{LinkAddr, bind, recvfrom};
use pgha_common::neighbour::{Discovery, HOP_LIMIT};
use pgha_common::wire::PROTOCOL_ICMPV6;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::frame::{self, Word, at};
use crate::net::error::NetError;
use crate::net::filter::{jump, statement};
use crate::net::link::Interface;

/// Room for an untagged frame of the usual size; neighbour discovery is far shorter.
const FRAME_MAX: usize = 1514;

/// What a packet socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    Nothing,
    Arp,
    /// ICMPv6 messages of these two types and those between.
    Icmp6 {
        first: u8,
        last: u8,
    },
}

impl Hears {
    /// All that shows a user of an address of that family.
    pub(super) const fn whoever_uses(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Arp,
            IpAddr::V6(_) => {
                Self::Icmp6 { first: Discovery::SOLICITATION, last: Discovery::ADVERTISEMENT }
            }
        }
    }

    /// All that claims an address of that family.
    pub(super) const fn whoever_claims(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Arp,
            IpAddr::V6(_) => {
                Self::Icmp6 { first: Discovery::ADVERTISEMENT, last: Discovery::ADVERTISEMENT }
            }
        }
    }

    /// As `linux/if_ether.h` numbers it; a socket of protocol 0 receives nothing.
    const fn protocol(self) -> i32 {
        match self {
            Self::Nothing => 0,
            Self::Arp => libc::ETH_P_ARP,
            Self::Icmp6 { .. } => libc::ETH_P_IPV6,
        }
    }

    /// What keeps the rest of the protocol from waking this process.
    fn filter(self) -> Option<[SockFilter; 9]> {
        match self {
            Self::Nothing | Self::Arp => None,
            Self::Icmp6 { first, last } => Some(icmp6_filter(first, last)),
        }
    }
}

/// Classic BPF (Documentation/networking/filter.rst): IPv6, then without extension headers ICMPv6 of
/// these types, with the hop limit that only a neighbour's packet has.
fn icmp6_filter(first: u8, last: u8) -> [SockFilter; 9] {
    let load = |offset: usize| statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, offset);
    let ret = |bytes: usize| statement(libc::BPF_RET | libc::BPF_K, bytes);
    // The last instruction refuses; each jump there counts those in between.
    [
        load(at::NEXT_HEADER),
        jump(libc::BPF_JEQ, PROTOCOL_ICMPV6, 0, 6),
        load(at::HOP_LIMIT),
        jump(libc::BPF_JEQ, HOP_LIMIT, 0, 4),
        load(at::ICMP6_TYPE),
        jump(libc::BPF_JGE, first, 0, 2),
        jump(libc::BPF_JGT, last, 1, 0),
        ret(FRAME_MAX),
        ret(0),
    ]
}

/// A packet socket on one interface, non-blocking.
pub(super) fn open(interface: &Interface, hears: Hears) -> Result<Socket, NetError> {
    let failed = NetError::packet("open a packet socket");
    let protocol = u16::try_from(hears.protocol()).unwrap_or_default().to_be();
    let protocol = Some(Protocol::from(i32::from(protocol)));
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), protocol).map_err(&failed)?;
    if let Some(filter) = hears.filter() {
        socket.attach_filter(&filter).map_err(&failed)?;
    }
    let address = link_address(interface)?;
    bind(socket.as_raw_fd(), &address).map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

/// Sends a whole frame.
pub(super) fn send(socket: &Socket, frame: &[u8]) -> Result<(), NetError> {
    socket.send(frame).map(drop).map_err(NetError::packet("send about a VIP"))
}

/// The interface as an address to bind to. The C library makes it: its protocol is 0, which keeps
/// the socket's own (packet_bind in af_packet.c).
fn link_address(interface: &Interface) -> Result<LinkAddr, NetError> {
    let all = getifaddrs().map_err(|errno| NetError::Socket {
        what: "list the addresses of interfaces",
        source: errno.into(),
    })?;
    let index = number(interface);
    all.filter_map(|entry| entry.address)
        .filter_map(|address| address.as_link_addr().copied())
        .find(|address| address.ifindex() == index)
        .ok_or_else(|| NetError::NoSuchInterface {
            name: interface.name().to_owned(),
            present: Vec::new(),
        })
}

fn number(interface: &Interface) -> usize {
    usize::try_from(interface.index().get()).unwrap_or_default()
}

/// A packet socket that is read.
#[derive(Debug)]
pub(super) struct Listener {
    socket: AsyncFd<Socket>,
    interface: usize,
}

impl Listener {
    /// Opens it in the network namespace of the calling thread, on a tokio runtime with I/O.
    pub(super) fn open(interface: &Interface, hears: Hears) -> Result<Self, NetError> {
        let socket = open(interface, hears)?;
        // SAFETY: the socket owns its one descriptor, and is open until the AsyncFd drops it.
        let socket = unsafe { AsyncFd::register(socket) };
        let failed = |source| NetError::Socket { what: "poll a packet socket", source };
        let socket = socket.map_err(|error| failed(error.into()))?;
        Ok(Self { socket, interface: number(interface) })
    }

    pub(super) fn send(&self, frame: &[u8]) -> Result<(), NetError> {
        send(self.socket.get_ref(), frame)
    }

    /// The next frame that says something about an address. Cancel-safe.
    pub(super) async fn next(&self) -> Result<Word, NetError> {
        let failed = NetError::packet("listen for a VIP");
        loop {
            let mut ready = self.socket.readable().await.map_err(&failed)?;
            if let Ok(word) = ready.try_io(|socket| self.receive(socket.get_ref()))
                && let Some(word) = word.map_err(&failed)?
            {
                return Ok(word);
            }
        }
    }

    fn receive(&self, socket: &Socket) -> io::Result<Option<Word>> {
        let mut buffer = [0; FRAME_MAX];
        let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
        // Until it is bound, a packet socket receives from all interfaces. What is of another VLAN is
        // as if sent to another host.
        let ours = |from: LinkAddr| {
            from.ifindex() == self.interface && from.pkttype() != libc::PACKET_OTHERHOST
        };
        if !from.is_some_and(ours) {
            return Ok(None);
        }
        Ok(buffer.get(..length).and_then(frame::read))
    }
}
