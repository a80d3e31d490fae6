//! What a surrender needs, opened and put together beforehand. The surrender itself allocates nothing and opens
//! nothing.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::libc;
use pgha_machine::Moment;
use socket2::{Domain, Protocol, Socket, Type};
use zerocopy::{Immutable, IntoBytes};

use super::said::{Charge, Surrendered, Vip};

/// How long the kernel has for its answer. It gives it before the request's call returns.
const PATIENCE: Duration = Duration::from_secs(1);
/// `NLM_F_REQUEST | NLM_F_ACK` and `NLMSG_ERROR` (linux/netlink.h).
const REQUEST: u16 = 1 | 4;
const ERROR: u16 = 2;
/// Where a netlink message has its kind, and one of the kind `NLMSG_ERROR` the number of the error.
const KIND_AT: usize = 4;
const CODE_AT: usize = 16;

/// The means to give up one charge.
pub(super) struct Means {
    start: u64,
    kill: File,
    killed: io::Result<()>,
    netlink: File,
    removals: Vec<Removal>,
}

/// Takes one address off.
struct Removal {
    address: IpAddr,
    message: Vec<u8>,
    done: io::Result<()>,
}

/// `struct nlmsghdr`, `struct ifaddrmsg` (linux/if_addr.h) and the header of one attribute.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Message {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    prefix: u8,
    address_flags: u8,
    scope: u8,
    interface: u32,
    attribute_length: u16,
    attribute: u16,
}

impl Means {
    /// Opens what the charge will take.
    ///
    /// # Errors
    /// What cannot be opened, and why.
    pub(super) fn prepare(charge: &Charge) -> Result<Self, String> {
        let path = charge.cgroup.join("cgroup.kill");
        let kill = OpenOptions::new().write(true).open(&path);
        let kill = kill.map_err(|error| {
            format!("open {}: {error}; it takes a cgroup v2 and Linux 5.14", path.display())
        })?;
        let netlink = netlink().map_err(|error| format!("open a netlink socket: {error}"))?;
        let removals = charge.vips.iter().map(Removal::of).collect();
        Ok(Self { start: charge.start, kill, killed: Ok(()), netlink, removals })
    }

    /// Kills every process in the cgroup and below, then takes the addresses off. In this order: the former takes
    /// no lock that anybody else holds for long, and nobody must wait for the latter.
    pub(super) fn surrender(&mut self) {
        self.killed = match self.kill.write_all(b"1") {
            // It was removed, which takes that it was empty.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            killed => killed,
        };
        for removal in &mut self.removals {
            removal.done = match remove(&mut self.netlink, &removal.message) {
                // It is not there, or its interface is not.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) =>
                {
                    Ok(())
                }
                removed => removed,
            };
        }
    }

    /// What became of [`Self::surrender`].
    pub(super) fn report(&self, at: Moment) -> Surrendered {
        let failed = |removal: &Removal| {
            removal.done.as_ref().err().map(|error| (removal.address, error.to_string()))
        };
        Surrendered {
            start: self.start,
            at,
            kill: self.killed.as_ref().err().map(io::Error::to_string),
            vips: self.removals.iter().filter_map(failed).collect(),
        }
    }
}

impl Removal {
    fn of(vip: &Vip) -> Self {
        let (family, bytes) = match vip.address {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        let header = Message {
            length: u32::try_from(size_of::<Message>() + bytes.len()).unwrap_or_default(),
            kind: libc::RTM_DELADDR,
            flags: REQUEST,
            sequence: 1,
            port: 0,
            family: u8::try_from(family).unwrap_or_default(),
            prefix: vip.prefix,
            address_flags: 0,
            scope: 0,
            interface: vip.interface,
            attribute_length: u16::try_from(4 + bytes.len()).unwrap_or_default(),
            attribute: libc::IFA_LOCAL,
        };
        let message = [header.as_bytes(), &bytes].concat();
        Self { address: vip.address, message, done: Ok(()) }
    }
}

fn netlink() -> io::Result<File> {
    let protocol = Some(Protocol::from(libc::NETLINK_ROUTE));
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, protocol)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(OwnedFd::from(socket).into())
}

fn remove(netlink: &mut File, message: &[u8]) -> io::Result<()> {
    netlink.write_all(message)?;
    let mut answer = [0; 256];
    let length = netlink.read(&mut answer)?;
    verdict(&answer[..length])
}

/// What an acknowledgement says: the number of an error, or 0.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(KIND_AT..KIND_AT + 2).and_then(|kind| kind.try_into().ok());
    let code = answer.get(CODE_AT..CODE_AT + 4).and_then(|code| code.try_into().ok());
    if kind.map(u16::from_ne_bytes) != Some(ERROR) {
        return Err(invalid());
    }
    match code.map(i32::from_ne_bytes).ok_or_else(invalid)? {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}
