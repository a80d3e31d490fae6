//! This node's side of a probe: its interfaces, and which of its addresses may ask.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrStorage};
use pgha_machine::Mac;

use crate::net::addresses::asking;
use crate::net::error::NetError;

#[cfg(test)]
mod tests;

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Link {
    name: String,
    up: bool,
    /// Where frames are sent from.
    pub(super) device: Option<(LinkAddr, Mac)>,
    addresses: Vec<IpNet>,
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
        let links = interfaces.iter().map(|name| {
            let own = entries.iter().filter(|entry| entry.interface_name == *name);
            Link {
                name: name.clone(),
                up: own.clone().any(|entry| entry.flags.contains(InterfaceFlags::IFF_RUNNING)),
                device: own.clone().find_map(device),
                addresses: own.filter_map(address).collect(),
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
