//! Echo requests of a given length: whether frames as long as the interface's reach another host.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::libc;
use pgha_common::checksum;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::error::NetError;

/// Bytes before the data of an echo request in each family: the IP header and the ICMP header.
const HEADERS: [usize; 2] = [20 + 8, 40 + 8];
/// Types of request and reply (RFC 792, RFC 4443).
const ICMP: (u8, u8) = (8, 0);
const ICMPV6: (u8, u8) = (128, 129);
/// The sequence number of every request; each socket sends with an identifier of its own.
const SEQUENCE: u16 = 1;

/// Whether `host` answers an echo request of `length` bytes, IP header included, that nobody may cut into
/// fragments. The length of what was found out about the path before does not count: the packet is sent.
///
/// # Errors
/// No CAP_NET_RAW, or no way there. A packet that is too long for the interface is an answer: `false`.
pub async fn answers(host: IpAddr, length: usize, patience: Duration) -> Result<bool, NetError> {
    let failed = NetError::packet("send an echo request");
    let socket = open(host).map_err(&failed)?;
    let identifier = identifier(&socket);
    let packet = request(host, length, identifier);
    match socket.send_to(&packet, &SocketAddr::new(host, 0).into()) {
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Ok(false),
        Err(error) => return Err(failed(error)),
        Ok(_) => {}
    }
    // SAFETY: the socket owns its one descriptor, and is open until the AsyncFd drops it.
    let registered = unsafe { AsyncFd::register(socket) };
    let socket = registered.map_err(|error| failed(error.into()))?;
    let reply = async {
        loop {
            let mut ready = socket.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Ok((from, packet))) if from == host && is_reply(host, &packet, identifier) => {
                    return Ok(());
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    };
    match timeout(patience, reply).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Ok(false),
    }
}

fn open(host: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match host {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // Not cut into fragments, whatever is known of the path (ip(7), ipv6(7)).
    let (level, option, value) = match host {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the option takes an integer, which outlives the call, and its size is given.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// Another one for each socket that this process has open.
fn identifier(socket: &Socket) -> u16 {
    let [_, _, high, low] =
        (std::process::id() ^ socket.as_raw_fd().cast_unsigned() << 8).to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The kernel puts the IP header before it, and in IPv6 the checksum into it (RFC 3542, section 3.1).
fn request(host: IpAddr, length: usize, identifier: u16) -> Vec<u8> {
    let (kind, header) = if host.is_ipv4() { (ICMP.0, HEADERS[0]) } else { (ICMPV6.0, HEADERS[1]) };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(SEQUENCE.to_be_bytes());
    packet.resize(packet.len() + length.saturating_sub(header), b'p');
    if host.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

fn checksum(message: &[u8]) -> [u8; 2] {
    let words = message.chunks(2).map(|bytes| match *bytes {
        [high, low] => checksum::word([high, low]),
        [high] => checksum::word([high, 0]),
        _ => 0,
    });
    checksum::finish(words.sum())
}

fn receive(socket: &Socket) -> io::Result<(IpAddr, Vec<u8>)> {
    // The beginning is enough; the rest of a packet is thrown away.
    let mut buffer = [MaybeUninit::<u8>::uninit(); 128];
    let (length, from) = socket.recv_from(&mut buffer)?;
    // SAFETY: the kernel has written that many bytes.
    let bytes = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
    let from = from.as_socket().map(|from| from.ip());
    Ok((from.ok_or(io::ErrorKind::InvalidData)?, bytes))
}

/// A raw IPv4 socket gives the IP header too, a raw IPv6 socket does not (raw(7), RFC 3542).
fn is_reply(host: IpAddr, packet: &[u8], identifier: u16) -> bool {
    let (kind, message) = match host {
        IpAddr::V4(_) => {
            let header = packet.first().map_or(0, |byte| usize::from(byte & 0x0f) * 4);
            (ICMP.1, packet.get(header..).unwrap_or_default())
        }
        IpAddr::V6(_) => (ICMPV6.1, packet),
    };
    let [a, b] = identifier.to_be_bytes();
    let [c, d] = SEQUENCE.to_be_bytes();
    matches!(message, [first, 0, _, _, rest @ ..] if *first == kind && rest.starts_with(&[a, b, c, d]))
}

#[cfg(test)]
mod tests;
