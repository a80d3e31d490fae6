//! What a network card does with a frame before XDP sees it.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::NetError;

/// `ETHTOOL_GFLAGS`, `ETH_FLAG_RXVLAN` and `ETH_FLAG_LRO` (linux/ethtool.h).
const GET_FLAGS: u32 = 0x25;
const RX_VLAN: u32 = 1 << 8;
const LRO: u32 = 1 << 15;
/// `ETHTOOL_GTXCSUM` (linux/ethtool.h).
const GET_TX_CHECKSUM: u32 = 0x16;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether an interface takes the VLAN tag off a frame that it receives (`rx-vlan-offload`). XDP sees no tag
/// then, and what it sends has none.
///
/// # Errors
/// There is no such interface.
pub fn takes_tags_off(interface: &str) -> Result<bool, NetError> {
    value(interface, GET_FLAGS).map(|flags| flags & RX_VLAN != 0)
}

/// Whether an interface joins received segments before XDP sees them (large receive offload). A joined
/// frame is longer than the network carries, so that it cannot be forwarded.
///
/// # Errors
/// There is no such interface.
pub fn joins_segments(interface: &str) -> Result<bool, NetError> {
    value(interface, GET_FLAGS).map(|flags| flags & LRO != 0)
}

/// Whether this node leaves the checksums of what it sends to an interface.
///
/// # Errors
/// There is no such interface.
pub fn leaves_checksums(interface: &str) -> Result<bool, NetError> {
    value(interface, GET_TX_CHECKSUM).map(|on| on != 0)
}

/// 0 of a device that has no offloads to tell of.
fn value(interface: &str, command: u32) -> Result<u32, NetError> {
    match ask(interface, command) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(0),
        asked => asked.map_err(|source| NetError::Offloads { name: interface.to_owned(), source }),
    }
}

fn ask(interface: &str, command: u32) -> io::Result<u32> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut value = Value { command, data: 0 };
    let data = (&raw mut value).cast();
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    // SAFETY: the request has a name that ends in zero and points to a value of the command's own type; the
    // kernel writes that alone, and both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
