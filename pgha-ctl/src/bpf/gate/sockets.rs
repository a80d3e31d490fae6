//! Whose gate the sockets of a running server meet: sockets keep the cgroup that they were made in, also when
//! their process is moved to another.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use std::{fs, iter};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::GateError;

/// `NETLINK_SOCK_DIAG` and its question (linux/sock_diag.h), `NLM_F_REQUEST | NLM_F_DUMP`, and the kinds of
/// messages that are no answer (linux/netlink.h).
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_ALL: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `TCP_LISTEN` (net/tcp_states.h), as a bit.
const LISTENING: u32 = 1 << 10;
/// `INET_DIAG_CGROUP_ID` (linux/inet_diag.h), since Linux 5.9.
const CGROUP_ID: u16 = 21;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// A listening TCP socket of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The id of the cgroup it belongs to: the inode number of the cgroup's directory.
    pub cgroup: u64,
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
#[derive(Default, FromBytes, IntoBytes, Immutable)]
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

/// The listening TCP sockets that a process has open, in the network namespace of the calling thread.
///
/// # Errors
/// There is no such process, or the kernel does not say.
pub fn listeners(pid: u32) -> Result<Vec<Listener>, GateError> {
    let failed = || GateError::sockets(pid);
    let own = inodes(pid).map_err(failed())?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let all = ask(family).map_err(failed())?;
        found.extend(all.into_iter().filter(|(inode, _)| own.contains(inode)).map(|(_, l)| l));
    }
    Ok(found)
}

/// Those of a process's listening TCP sockets that do not belong to a cgroup: where there are any, a gate on that
/// cgroup does not hold this server, and it must be restarted under one.
///
/// # Errors
/// As [`listeners`]; and the path is no directory.
pub fn outside(pid: u32, cgroup: &Path) -> Result<Vec<Listener>, GateError> {
    let cgroup = fs::metadata(cgroup).map_err(GateError::cgroup(cgroup))?.ino();
    let mut listeners = listeners(pid)?;
    listeners.retain(|listener| listener.cgroup != cgroup);
    Ok(listeners)
}

/// The inodes of the sockets that a process has open (`socket:[inode]`, proc_pid_fd(5)).
fn inodes(pid: u32) -> io::Result<BTreeSet<u32>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One that was closed meanwhile is not open.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u32>().ok()));
    }
    Ok(inodes)
}

/// All listening TCP sockets of a family, by inode.
fn ask(family: i32) -> io::Result<Vec<(u32, Listener)>> {
    let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, protocol)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let question = Question {
        header: Header {
            length: u32::try_from(size_of::<Question>()).unwrap_or_default(),
            kind: SOCK_DIAG_BY_FAMILY,
            flags: REQUEST_ALL,
            sequence: 1,
            port: 0,
        },
        family: u8::try_from(family).unwrap_or_default(),
        protocol: u8::try_from(libc::IPPROTO_TCP).unwrap_or_default(),
        extensions: 0,
        padding: 0,
        states: LISTENING,
        id: SocketId::default(),
    };
    socket.send(question.as_bytes())?;
    let mut found = Vec::new();
    loop {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 << 10];
        let length = socket.recv(&mut buffer)?;
        // SAFETY: the kernel has written that many bytes.
        let part: Vec<u8> =
            buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        if !collect(&part, &mut found)? {
            return Ok(found);
        }
    }
}

/// Adds what is in a part of the answer; whether more follows.
fn collect(mut part: &[u8], found: &mut Vec<(u32, Listener)>) -> io::Result<bool> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    while !part.is_empty() {
        let (header, _) = Header::read_from_prefix(part).map_err(|_| invalid())?;
        let length = header.length as usize;
        let body = part.get(size_of::<Header>()..length).ok_or_else(invalid)?;
        match header.kind {
            DONE => return Ok(false),
            ERROR => {
                let (code, _) = i32::read_from_prefix(body).map_err(|_| invalid())?;
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            _ => found.push(listener(body).ok_or_else(invalid)?),
        }
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// A socket as the kernel describes it; `None` also where it does not tell the cgroup (Linux before 5.9).
fn listener(body: &[u8]) -> Option<(u32, Listener)> {
    let (answer, attributes) = Answer::read_from_prefix(body).ok()?;
    let [a, b, c, d, ..] = answer.id.source;
    let address = match i32::from(answer.family) {
        libc::AF_INET => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::from(Ipv6Addr::from(answer.id.source)),
    };
    let port = u16::from_be_bytes(answer.id.source_port);
    let cgroup = attributes_of(attributes).find(|(kind, _)| *kind == CGROUP_ID)?.1;
    let cgroup = u64::from_ne_bytes(cgroup.try_into().ok()?);
    Some((answer.inode, Listener { address: SocketAddr::new(address, port), cgroup }))
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
