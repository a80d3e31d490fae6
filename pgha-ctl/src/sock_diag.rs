//! The TCP sockets of a network namespace, by the kernel's `sock_diag` (sock_diag(7)).

use std::io;
use std::iter;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `NETLINK_SOCK_DIAG` and its questions (linux/sock_diag.h), `NLM_F_REQUEST` with `NLM_F_DUMP` or `NLM_F_ACK`, and
/// the kinds of messages that are no answer (linux/netlink.h).
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST_ALL: u16 = 0x301;
const REQUEST_ONE: u16 = 5;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `INET_DIAG_CGROUP_ID` (linux/inet_diag.h), since Linux 5.9.
const CGROUP_ID: u16 = 21;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// States of sockets (net/tcp_states.h), as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct States(u32);

impl States {
    /// `TCP_LISTEN`.
    pub(crate) const LISTENING: Self = Self(1 << 10);
    /// Those in which there is another side that waits for something: from `TCP_ESTABLISHED` to `TCP_CLOSING`,
    /// but for those that have none, or need nothing more.
    pub(crate) const CONNECTED: Self =
        Self(1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11);
}

/// A TCP socket.
#[derive(Debug)]
pub(crate) struct TcpSocket {
    family: u8,
    id: SocketId,
    /// The number of its inode.
    pub(crate) inode: u32,
    /// The id of the cgroup it belongs to, where the kernel tells (Linux 5.9 and later).
    pub(crate) cgroup: Option<u64>,
}

/// `struct nlmsghdr` (linux/netlink.h).
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_sockid` (linux/inet_diag.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
struct SocketId {
    source_port: [u8; 2],
    destination_port: [u8; 2],
    source: [u8; 16],
    destination: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// A netlink header and `struct inet_diag_req_v2`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Question {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: u32,
    id: SocketId,
}

/// `struct inet_diag_msg`.
#[repr(C)]
#[derive(FromBytes, Immutable)]
struct Answer {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
    expires: u32,
    receive_queue: u32,
    send_queue: u32,
    user: u32,
    inode: u32,
}

impl TcpSocket {
    /// This side of it.
    pub(crate) fn local(&self) -> SocketAddr {
        self.address(self.id.source, self.id.source_port)
    }

    /// The other side.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.address(self.id.destination, self.id.destination_port)
    }

    fn address(&self, bytes: [u8; 16], port: [u8; 2]) -> SocketAddr {
        let [a, b, c, d, ..] = bytes;
        let address = match i32::from(self.family) {
            libc::AF_INET => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::from(Ipv6Addr::from(bytes)),
        };
        SocketAddr::new(address, u16::from_be_bytes(port))
    }
}

/// A socket to the kernel, of the network namespace of the thread that opens it.
#[derive(Debug)]
pub(crate) struct SockDiag(Socket);

impl SockDiag {
    /// Opens it.
    pub(crate) fn open() -> io::Result<Self> {
        let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, protocol)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// All TCP sockets of both families in one of these states.
    pub(crate) fn all(&self, states: States) -> io::Result<Vec<TcpSocket>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).unwrap_or_default();
            self.ask(SOCK_DIAG_BY_FAMILY, REQUEST_ALL, family, states.0, SocketId::default())?;
            while collect(&self.receive()?, &mut found)? {}
        }
        Ok(found)
    }

    /// Ends a connection as if the other side had reset it, and tells the other side by a RST; whether it was there.
    /// Needs CAP_NET_ADMIN, and a kernel with CONFIG_INET_DIAG_DESTROY.
    pub(crate) fn destroy(&self, socket: &TcpSocket) -> io::Result<bool> {
        self.ask(SOCK_DESTROY, REQUEST_ONE, socket.family, 0, socket.id)?;
        match collect(&self.receive()?, &mut Vec::new()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            answered => answered.map(|_| true),
        }
    }

    fn ask(&self, kind: u16, flags: u16, family: u8, states: u32, id: SocketId) -> io::Result<()> {
        let question = Question {
            header: Header {
                length: u32::try_from(size_of::<Question>()).unwrap_or_default(),
                kind,
                flags,
                sequence: 1,
                port: 0,
            },
            family,
            protocol: u8::try_from(libc::IPPROTO_TCP).unwrap_or_default(),
            extensions: 0,
            padding: 0,
            states,
            id,
        };
        self.0.send(question.as_bytes()).map(drop)
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 << 10];
        let length = self.0.recv(&mut buffer)?;
        // SAFETY: the kernel has written that many bytes.
        Ok(buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect())
    }
}

/// Adds what is in a part of the answer; whether more follows. An acknowledgement is an error of number 0.
fn collect(mut part: &[u8], found: &mut Vec<TcpSocket>) -> io::Result<bool> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    while !part.is_empty() {
        let (header, _) = Header::read_from_prefix(part).map_err(|_| invalid())?;
        let length = header.length as usize;
        let body = part.get(size_of::<Header>()..length).ok_or_else(invalid)?;
        match header.kind {
            DONE => return Ok(false),
            ERROR => {
                let (code, _) = i32::read_from_prefix(body).map_err(|_| invalid())?;
                return match code {
                    0 => Ok(false),
                    code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                };
            }
            _ => found.push(socket(body).ok_or_else(invalid)?),
        }
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// A socket as the kernel describes it.
fn socket(body: &[u8]) -> Option<TcpSocket> {
    let (answer, attributes) = Answer::read_from_prefix(body).ok()?;
    let cgroup = attributes_of(attributes).find(|(kind, _)| *kind == CGROUP_ID);
    let cgroup = cgroup.and_then(|(_, id)| id.try_into().ok()).map(u64::from_ne_bytes);
    Some(TcpSocket { family: answer.family, id: answer.id, inode: answer.inode, cgroup })
}

/// Kind and value of each attribute (`struct nlattr`).
fn attributes_of(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    iter::from_fn(move || {
        let (&[low, high, kind_low, kind_high], _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([kind_low, kind_high]), value))
    })
}
