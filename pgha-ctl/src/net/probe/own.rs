//! This node's side of a probe: its interfaces, and which of its addresses may ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::{fs, io};

use ipnet::IpNet;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::libc;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrStorage};
use pgha_machine::Mac;

use crate::net::addresses::asking;
use crate::net::error::NetError;

#[cfg(test)]
mod tests;

/// The IPv6 addresses of the calling thread's network namespace with their state, which getifaddrs(3)
/// does not tell: a line each of address, interface's number, length of prefix, scope, flags and
/// interface's name, the numbers hexadecimal (`if6_seq_show` in addrconf.c).
const STATES: &str = "/proc/thread-self/net/if_inet6";

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Link {
    name: String,
    up: bool,
    /// Where frames are sent from.
    pub(super) device: Option<(LinkAddr, Mac)>,
    /// Those that may ask; those that do so reluctantly are last.
    addresses: Vec<IpNet>,
}

/// The state of an address (RFC 4862, section 2); the lesser, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Preferred,
    /// It is to go, and works until then.
    Deprecated,
    /// Somebody else may have it, or has it.
    Unusable,
}

/// This node as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Own {
    /// The director's interfaces, in their order.
    pub(super) links: Vec<Link>,
    /// All addresses of all interfaces.
    pub(super) all: BTreeSet<IpAddr>,
}

impl Own {
    /// Asks the kernel.
    pub(super) fn read(interfaces: &[String]) -> Result<Self, NetError> {
        let failed = |source| NetError::Socket { what: "list the addresses of interfaces", source };
        let entries: Vec<_> = getifaddrs().map_err(|errno| failed(errno.into()))?.collect();
        let states = match fs::read_to_string(STATES) {
            Ok(text) => states(&text),
            // IPv6 is off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(error)),
        };
        let links = interfaces.iter().map(|name| {
            let own = entries.iter().filter(|entry| entry.interface_name == *name);
            Link {
                name: name.clone(),
                up: own.clone().any(|entry| entry.flags.contains(InterfaceFlags::IFF_RUNNING)),
                device: own.clone().find_map(device),
                addresses: asking_addresses(name, own.filter_map(address), &states),
            }
        });
        let all = entries.iter().filter_map(address).map(|net| net.addr()).collect();
        Ok(Self { links: links.collect(), all })
    }
}

impl Link {
    /// The address that asks for a VIP.
    ///
    /// # Errors
    /// Why there is none, and how to mend it.
    pub(super) fn asks(&self, vip: IpAddr, vips: &BTreeSet<IpAddr>) -> Result<IpAddr, String> {
        if self.device.is_none() || !self.up {
            return Err(format!(
                "interface {} is down or has no carrier; run: ip link set {0} up",
                self.name
            ));
        }
        asking(&self.addresses, vip, vips).ok_or_else(|| {
            let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
            format!(
                "interface {} has no {family} address of its own to probe VIP {vip} from; give it one: ip \
                 address add ADDRESS dev {0}",
                self.name
            )
        })
    }
}

/// The state of each IPv6 address of each interface.
fn states(text: &str) -> BTreeMap<(String, Ipv6Addr), State> {
    let line = |line: &str| {
        let [address, _, _, _, flags, name] =
            line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let address = Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?);
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let has = |flag: u32| flags & flag != 0;
        // An optimistic one may be used before it is known to be unique (RFC 4429).
        let waits = has(libc::IFA_F_TENTATIVE) && !has(libc::IFA_F_OPTIMISTIC);
        let state = if waits || has(libc::IFA_F_DADFAILED) {
            State::Unusable
        } else if has(libc::IFA_F_DEPRECATED) {
            State::Deprecated
        } else {
            State::Preferred
        };
        Some(((name.to_owned(), address), state))
    };
    text.lines().filter_map(line).collect()
}

fn asking_addresses(
    name: &str,
    all: impl Iterator<Item = IpNet>,
    states: &BTreeMap<(String, Ipv6Addr), State>,
) -> Vec<IpNet> {
    let state = |net: &IpNet| match net.addr() {
        IpAddr::V4(_) => State::Preferred,
        IpAddr::V6(address) => {
            states.get(&(name.to_owned(), address)).copied().unwrap_or(State::Preferred)
        }
    };
    let mut usable: Vec<_> = all.filter(|net| state(net) != State::Unusable).collect();
    usable.sort_by_key(state);
    usable
}

fn device(entry: &InterfaceAddress) -> Option<(LinkAddr, Mac)> {
    let device = *entry.address.as_ref()?.as_link_addr()?;
    Some((device, Mac::new(device.addr()?)?))
}

fn address(entry: &InterfaceAddress) -> Option<IpNet> {
    let address = ip(entry.address.as_ref()?)?;
    let bits = match entry.netmask.as_ref().and_then(ip) {
        Some(IpAddr::V4(mask)) => mask.to_bits().count_ones(),
        Some(IpAddr::V6(mask)) => mask.to_bits().count_ones(),
        None => 128,
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    IpNet::new(address, u8::try_from(bits.min(most)).ok()?).ok()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    ipv4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
