//! ARP for the VIPs (RFC 826, RFC 5227): is an address in use, and announcing one.

mod frame;
#[cfg(test)]
mod tests;

use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{LinkAddr, bind};
use pgha_machine::Mac;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::spawn_blocking;

use super::error::NetError;
use super::link::Interface;
use frame::Frame;

/// RFC 5227, section 1.1: PROBE_NUM.
const PROBES: u32 = 3;
/// Room for a frame of ARP with some padding; of a longer one the rest is cut off.
const FRAME_MAX: usize = 128;

/// Whether somebody uses `vip` on the interface's network: the MAC of the first that answers,
/// claims it, or probes for it too. Three probes go out within `patience`, evenly spaced, and the
/// time after each is spent listening. RFC 5227 waits 5 to 7 seconds; less finds those who answer
/// fast. When the future is dropped, its thread listens on until `patience` has passed.
///
/// # Errors
/// No CAP_NET_RAW, or the interface is gone or down.
pub async fn probe(
    interface: &Interface,
    vip: Ipv4Addr,
    patience: Duration,
) -> Result<Option<Mac>, NetError> {
    // Opened on this thread, whose network namespace counts.
    let socket = open(interface)?;
    let own = interface.mac();
    let listening = spawn_blocking(move || {
        let begin = Instant::now();
        for round in 1..=PROBES {
            send(&socket, &Frame::probe(own, vip))?;
            let end = begin + patience * round / PROBES;
            if let Some(user) = user_until(&socket, vip, own, end)? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    });
    let ended = |source| NetError::Socket { what: "listen for ARP", source };
    listening.await.map_err(|error| ended(io::Error::other(error)))?
}

/// Tells the network that `vip` is at this interface: one announcement (RFC 5227, section 3), an
/// ARP request with the VIP as both sender and target. Neighbours that know another MAC for the
/// VIP take this one over. Repeating it is the caller's business.
///
/// # Errors
/// No CAP_NET_RAW, or the interface is gone or down.
pub fn announce(interface: &Interface, vip: Ipv4Addr) -> Result<(), NetError> {
    send(&open(interface)?, &Frame::announcement(interface.mac(), vip))
}

/// A packet socket for ARP on one interface.
fn open(interface: &Interface) -> Result<Socket, NetError> {
    let failed = NetError::packet("open a packet socket for ARP");
    let ethertype = i32::from(u16::try_from(libc::ETH_P_ARP).unwrap_or_default().to_be());
    let socket =
        Socket::new(Domain::from(libc::AF_PACKET), Type::RAW, Some(Protocol::from(ethertype)))
            .map_err(&failed)?;
    let address = link_address(interface)?;
    bind(socket.as_raw_fd(), &address).map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

/// The interface as an address to bind to. The C library makes it: its protocol is 0, which keeps
/// the socket's own (packet_bind in af_packet.c).
fn link_address(interface: &Interface) -> Result<LinkAddr, NetError> {
    let all = getifaddrs().map_err(|errno| NetError::Socket {
        what: "list the addresses of interfaces",
        source: errno.into(),
    })?;
    let index = usize::try_from(interface.index().get()).ok();
    all.filter_map(|entry| entry.address)
        .filter_map(|address| address.as_link_addr().copied())
        .find(|address| Some(address.ifindex()) == index)
        .ok_or_else(|| NetError::NoSuchInterface {
            name: interface.name().to_owned(),
            present: Vec::new(),
        })
}

fn send(mut socket: &Socket, frame: &Frame) -> Result<(), NetError> {
    socket.write_all(&frame.encode()).map_err(NetError::packet("send ARP"))
}

/// Waits until `end` for a frame that shows another user of `vip`.
fn user_until(
    mut socket: &Socket,
    vip: Ipv4Addr,
    own: Mac,
    end: Instant,
) -> Result<Option<Mac>, NetError> {
    let failed = NetError::packet("receive ARP");
    let mut buffer = [0; FRAME_MAX];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // A timeout below 1 us would be rounded to 0, which means forever.
        let left = left.max(Duration::from_micros(1));
        socket.set_read_timeout(Some(left)).map_err(&failed)?;
        let length = match socket.read(&mut buffer) {
            Err(error) if is_timeout(&error) => continue,
            result => result.map_err(&failed)?,
        };
        let received = buffer.get(..length).and_then(Frame::decode);
        if let Some(user) = received.and_then(|frame| frame.other_user(vip, own)) {
            return Ok(Some(user));
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
