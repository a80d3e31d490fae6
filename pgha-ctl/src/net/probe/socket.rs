//! The sockets of all probes: a port that is theirs, and packet sockets (packet(7)) for what comes to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto, setsockopt, sockopt};
use pgha_common::wire::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP};
use pgha_machine::Mac;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::segment::{self, Heard};
use crate::net::error::NetError;
use crate::net::filter::{jump, statement};
use crate::net::raw::RawSender;

#[cfg(test)]
mod tests;

/// Room for a frame of the usual size; the answers are far shorter.
const FRAME_MAX: usize = 2048;
/// Answers that wait to be read: those of a few thousand paths, which are asked at once at a start.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How many frames are read of one socket without a pause: about what fits into its buffer.
const READ_AT_ONCE: usize = 8192;

/// The sockets of all probes.
#[derive(Debug)]
pub(super) struct Sockets {
    port: u16,
    /// It listens, so that the port is this process's and the kernel resets nothing that comes to it, and its
    /// filter drops it all, so that the kernel answers nothing either (`tcp_filter` in tcp_ipv4.c).
    _holder: Socket,
    ipv4: AsyncFd<Socket>,
    ipv6: AsyncFd<Socket>,
    local: RawSender,
}

impl Sockets {
    /// Opens them in the network namespace of the calling thread, on a tokio runtime with I/O.
    ///
    /// # Errors
    /// No CAP_NET_RAW, or the kernel refused.
    pub(super) fn open() -> Result<Self, NetError> {
        let failed = |source| NetError::Socket { what: "hold a port for probes", source };
        let holder = hold().map_err(failed)?;
        let address = holder.local_addr().and_then(|address| {
            address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
        });
        let port = address.map_err(failed)?.port();
        Ok(Self {
            port,
            _holder: holder,
            ipv4: listen(libc::ETH_P_IP, &ipv4_filter(port))?,
            ipv6: listen(libc::ETH_P_IPV6, &ipv6_filter(port))?,
            local: RawSender::open()?,
        })
    }

    /// The port that all probes come from.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Sends a frame by an interface.
    ///
    /// # Errors
    /// The interface is down or gone, or has no room.
    pub(super) fn send(&self, device: &LinkAddr, frame: &[u8]) -> io::Result<()> {
        let socket = self.ipv4.get_ref().as_raw_fd();
        Ok(sendto(socket, frame, device, MsgFlags::empty()).map(drop)?)
    }

    /// Sends a packet to an address of this very node.
    ///
    /// # Errors
    /// The kernel has no way there.
    pub(super) fn send_here(&self, packet: &[u8], to: IpAddr) -> Result<(), String> {
        self.local.send(packet, to).map_err(|error| error.to_string())
    }

    /// Returns when there may be something in [`Self::waiting`], or an error. Cancel-safe.
    pub(super) async fn readable(&self) {
        // It fails only when the runtime ends.
        let _ready = tokio::select! {
            ready = self.ipv4.readable() => ready,
            ready = self.ipv6.readable() => ready,
        };
    }

    /// All that have come already and may be about a probe, as far as the buffers reach, each with who sent the
    /// frame.
    pub(super) fn waiting(&self) -> Result<Vec<(Option<Mac>, Heard)>, NetError> {
        let mut all = Vec::new();
        for socket in [&self.ipv4, &self.ipv6] {
            let mut looked = false;
            let read = socket.try_io(Interest::READABLE, |socket| {
                looked = true;
                self.read(socket, &mut all)
            });
            // What tokio has not heard of yet is there all the same.
            let read = if looked { read } else { self.read(socket.get_ref(), &mut all) };
            match read {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(NetError::packet("listen for answers to probes")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(all)
    }

    /// Reads on until that would block, or until there is so much that the rest has to wait.
    fn read(&self, socket: &Socket, all: &mut Vec<(Option<Mac>, Heard)>) -> io::Result<()> {
        for _ in 0..READ_AT_ONCE {
            match self.receive(socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                heard => all.extend(heard?),
            }
        }
        Ok(())
    }

    fn receive(&self, socket: &Socket) -> io::Result<Option<(Option<Mac>, Heard)>> {
        let mut buffer = [0; FRAME_MAX];
        let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
        if from.is_none_or(|from| from.pkttype() == libc::PACKET_OTHERHOST) {
            return Ok(None);
        }
        let heard = buffer.get(..length).and_then(segment::read);
        let ours = heard.filter(|heard| match heard {
            Heard::Segment(ends, _) | Heard::Undelivered { ends, .. } => {
                ends.own.port() == self.port
            }
        });
        let mac = from.and_then(|from| from.addr()).and_then(Mac::new);
        Ok(ours.map(|heard| (mac, heard)))
    }
}

/// A port of both families, where the kernel has both.
fn hold() -> io::Result<Socket> {
    let open = |domain, address: SocketAddr| {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.attach_filter(&[statement(libc::BPF_RET | libc::BPF_K, 0)])?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok::<_, io::Error>(socket)
    };
    match open(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            open(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into())
        }
        result => result,
    }
}

/// A packet socket on all interfaces: an answer comes by whichever its sender routes it to.
fn listen(protocol: i32, filter: &[SockFilter]) -> Result<AsyncFd<Socket>, NetError> {
    let failed = NetError::packet("open a packet socket");
    let protocol = u16::try_from(protocol).unwrap_or_default().to_be();
    let protocol = Some(Protocol::from(i32::from(protocol)));
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), protocol).map_err(&failed)?;
    socket.attach_filter(filter).map_err(&failed)?;
    // Only CAP_NET_ADMIN gets past net.core.rmem_max; without it, as much as that allows.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(&failed)?;
    }
    // SAFETY: the socket owns its one descriptor, and is open until the AsyncFd drops it.
    let socket = unsafe { AsyncFd::register(socket) };
    socket.map_err(|error| NetError::Socket { what: "poll a packet socket", source: error.into() })
}

const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;

/// Whole TCP segments to `port`, and ICMP's "unreachable" and "time exceeded".
fn ipv4_filter(port: u16) -> [SockFilter; 14] {
    // Offsets in a frame: of an Ethernet header's 14 bytes and the IPv4 header behind them.
    const HEADER: usize = 14;
    const FRAGMENT: usize = 20;
    const PROTOCOL: usize = 23;
    let header_length = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
    let ret = |bytes: usize| statement(libc::BPF_RET | libc::BPF_K, bytes);
    [
        statement(header_length, HEADER),
        statement(HALF, FRAGMENT),
        jump(libc::BPF_JSET, 0x1fffu32, 10, 0),
        statement(BYTE, PROTOCOL),
        jump(libc::BPF_JEQ, PROTOCOL_TCP, 0, 3),
        statement(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, HEADER + 2),
        jump(libc::BPF_JEQ, port, 5, 0),
        ret(0),
        jump(libc::BPF_JEQ, PROTOCOL_ICMP, 0, 4),
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, HEADER),
        jump(libc::BPF_JEQ, 3u8, 1, 0),
        jump(libc::BPF_JEQ, 11u8, 0, 1),
        ret(FRAME_MAX),
        ret(0),
    ]
}

/// TCP segments to `port` without extension headers, and ICMPv6's "unreachable" and "time exceeded".
fn ipv6_filter(port: u16) -> [SockFilter; 9] {
    const NEXT_HEADER: usize = 20;
    const PAYLOAD: usize = 54;
    let ret = |bytes: usize| statement(libc::BPF_RET | libc::BPF_K, bytes);
    [
        statement(BYTE, NEXT_HEADER),
        jump(libc::BPF_JEQ, PROTOCOL_TCP, 0, 2),
        statement(HALF, PAYLOAD + 2),
        jump(libc::BPF_JEQ, port, 3, 4),
        jump(libc::BPF_JEQ, PROTOCOL_ICMPV6, 0, 3),
        statement(BYTE, PAYLOAD),
        jump(libc::BPF_JGT, 3u8, 1, 0),
        ret(FRAME_MAX),
        ret(0),
    ]
}
