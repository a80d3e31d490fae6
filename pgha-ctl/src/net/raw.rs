//! Whole IP packets, sent with whatever source address they carry: to clients in the name of a VIP.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::error::NetError;

/// What a socket holds of packets that the interface has not sent: a few thousand short ones, each of
/// which counts with its bookkeeping.
const SEND_BUFFER: usize = 4 << 20;

/// A packet was not sent.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum RawError {
    #[error("the queue of packets is full, so none was sent to {destination}; send it again later")]
    Busy { destination: IpAddr },
    #[error("there is no way to {destination}: {source}; look at: ip route get {destination}")]
    Unreachable { destination: IpAddr, source: io::Error },
    #[error(
        "a packet of {length} bytes to {destination} is longer than the interface takes; look at: ip route get {destination}"
    )]
    TooLong { destination: IpAddr, length: usize },
    #[error("nothing can be sent to {destination}: this kernel was started without IPv6")]
    NoIpv6 { destination: IpAddr },
    #[error("could not send a packet to {destination}: {source}")]
    Send { destination: IpAddr, source: io::Error },
}

/// Sends IP packets as they are. It never blocks, and it receives nothing.
///
/// Sockets of IPPROTO_RAW have their packets' headers made by the caller (raw(7), and inet6_create in
/// af_inet6.c), and the kernel does not ask whose the source address is: CAP_NET_RAW is all it takes,
/// in both families. It routes by the destination alone: rules that look at the source see none.
#[derive(Debug)]
pub struct RawSender {
    ipv4: Socket,
    /// `None` in a kernel without IPv6.
    ipv6: Option<Socket>,
}

impl RawSender {
    /// Opens the sockets, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No CAP_NET_RAW.
    pub fn open() -> Result<Self, NetError> {
        let failed = NetError::packet("open a raw socket");
        let ipv6 = match open(Domain::IPV6) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            result => Some(result.map_err(&failed)?),
        };
        Ok(Self { ipv4: open(Domain::IPV4).map_err(&failed)?, ipv6 })
    }

    /// Sends one packet, from its IP header to its end, on the way to `destination`, which is the
    /// header's. Of an IPv4 header the kernel fills in the total length and the checksum, and the
    /// identification if that is zero; an IPv6 packet leaves as it is.
    ///
    /// # Errors
    /// [`RawError::Busy`] when it may be tried again.
    pub fn send(&self, packet: &[u8], destination: IpAddr) -> Result<(), RawError> {
        let socket = match destination {
            IpAddr::V4(_) => &self.ipv4,
            IpAddr::V6(_) => self.ipv6.as_ref().ok_or(RawError::NoIpv6 { destination })?,
        };
        // A port would be taken for a protocol (rawv6_sendmsg).
        let address = SocketAddr::new(destination, 0).into();
        let sent = socket.send_to(packet, &address);
        sent.map(drop).map_err(|source| failure(source, destination, packet.len()))
    }
}

fn open(domain: Domain) -> io::Result<Socket> {
    let socket =
        Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW)))?;
    // Packets of protocol 255 would come in here; the least that the kernel allows is kept of them.
    socket.set_recv_buffer_size(0)?;
    // Only CAP_NET_ADMIN gets past net.core.wmem_max; without it, as much as that allows.
    if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER)?;
    }
    Ok(socket)
}

fn failure(source: io::Error, destination: IpAddr, length: usize) -> RawError {
    match source.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => RawError::Busy { destination },
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EACCES) => {
            RawError::Unreachable { destination, source }
        }
        Some(libc::EMSGSIZE) => RawError::TooLong { destination, length },
        _ => RawError::Send { destination, source },
    }
}
