//! What a driver can do with XDP, by generic netlink (Documentation/netlink/specs/netdev.yaml; since
//! Linux 6.3).

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::NetError;
use super::link::IfIndex;

/// `GENL_ID_CTRL` and what is asked of it (linux/genetlink.h).
const CONTROLLER: Question = Question { family: 0x10, command: 3, version: 2 };
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `NETDEV_CMD_DEV_GET` and its attributes (linux/netdev.h).
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_BASIC`: it runs programs, and sends back what they want sent back.
const BASIC: u64 = 1;

/// `NLM_F_REQUEST` and `NLMSG_ERROR` (linux/netlink.h).
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
/// Bytes of `struct nlmsghdr`, of `struct genlmsghdr` after it, and of `struct nlattr`.
const HEADER: usize = 16;
const GENERIC: usize = 4;
const ATTRIBUTE: usize = 4;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the driver of an interface runs XDP programs itself. `None` where the kernel cannot tell.
///
/// # Errors
/// There is no such interface, or the kernel did not answer.
pub fn native(interface: IfIndex) -> Result<Option<bool>, NetError> {
    let failed =
        |source| NetError::Socket { what: "ask what an interface's driver can do", source };
    let socket = open().map_err(failed)?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let family = match ask(&socket, &CONTROLLER, &name) {
        // Of Linux 6.3.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        answer => answer.map_err(failed)?,
    };
    let Some(family) = find(&family, CTRL_ATTR_FAMILY_ID).and_then(number) else { return Ok(None) };
    let Ok(family) = u16::try_from(family) else { return Ok(None) };
    let question = Question { family, command: NETDEV_CMD_DEV_GET, version: 1 };
    let index = attribute(NETDEV_A_DEV_IFINDEX, &interface.get().to_ne_bytes());
    let device = ask(&socket, &question, &index).map_err(failed)?;
    let features = find(&device, NETDEV_A_DEV_XDP_FEATURES).and_then(number);
    Ok(features.map(|features| features & BASIC != 0))
}

struct Question {
    family: u16,
    command: u8,
    version: u8,
}

fn open() -> io::Result<Socket> {
    let protocol = Protocol::from(libc::NETLINK_GENERIC);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The attributes of the answer.
fn ask(socket: &Socket, question: &Question, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let length = HEADER + GENERIC + attributes.len();
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    message.extend(question.family.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([question.command, question.version, 0, 0]);
    message.extend(attributes);
    socket.send(&message)?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
    let length = socket.recv(&mut buffer)?;
    // SAFETY: the kernel has written that many bytes.
    let answer: Vec<u8> =
        buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
    attributes_of(&answer)
}

/// The attributes of a message, or the error that it is.
fn attributes_of(message: &[u8]) -> io::Result<Vec<u8>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = message.get(4..6).and_then(number).ok_or_else(invalid)?;
    if kind == u64::from(ERROR) {
        let code = message.get(HEADER..HEADER + 4).ok_or_else(invalid)?;
        let code = i32::from_ne_bytes(code.try_into().map_err(|_| invalid())?);
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(message.get(HEADER + GENERIC..).ok_or_else(invalid)?.to_vec())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or_default();
    let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The value of the first attribute of that kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::try_from(number(attributes.get(0..2)?)?).ok()?;
        let kind = number(attributes.get(2..4)?)?;
        let value = attributes.get(ATTRIBUTE..length)?;
        if kind == u64::from(wanted) {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// A number of 2, 4 or 8 bytes in the order of this machine.
fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        2 => bytes.try_into().ok().map(u16::from_ne_bytes).map(u64::from),
        4 => bytes.try_into().ok().map(u32::from_ne_bytes).map(u64::from),
        8 => bytes.try_into().ok().map(u64::from_ne_bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
