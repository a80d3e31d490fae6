//! What a network card does with a frame before XDP sees it.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::NetError;

/// `ETHTOOL_GFLAGS` and `ETH_FLAG_RXVLAN` (linux/ethtool.h).
const GET_FLAGS: u32 = 0x25;
const RX_VLAN: u32 = 1 << 8;

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
    match flags(interface) {
        Ok(flags) => Ok(flags & RX_VLAN != 0),
        // A device that has no offloads to tell of.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(source) => Err(NetError::Offloads { name: interface.to_owned(), source }),
    }
}

fn flags(interface: &str) -> io::Result<u32> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut value = Value { command: GET_FLAGS, data: 0 };
    let data = (&raw mut value).cast();
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    // SAFETY: the request has a name that ends in zero and points to a value of the command's own type; the
    // kernel writes that alone, and both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
