#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use pgha_machine::Mac;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};

use super::addresses::{asking, interface_addresses};
use super::error::NetError;
use super::netlink::answer;

/// The kernel's number of an interface, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(NonZeroU32);

impl IfIndex {
    /// `None` for 0, which means no interface.
    #[must_use]
    pub const fn new(index: u32) -> Option<Self> {
        match NonZeroU32::new(index) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The XDP program of an interface, as IFLA_XDP reports it; where there are several, the first of
/// native, generic, offloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct XdpAttachment {
    /// The kernel's id of the program.
    pub prog_id: u32,
    /// Whether it runs behind the driver, on socket buffers.
    pub generic: bool,
}

/// An Ethernet interface as it was when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: String,
    index: IfIndex,
    mac: Mac,
    up: bool,
    mtu: u32,
    veth: bool,
    subnets: Vec<IpNet>,
    xdp: Option<XdpAttachment>,
}

impl Interface {
    /// Asks the kernel for the interface `name`.
    ///
    /// # Errors
    /// There is none, it is not Ethernet, or the kernel did not answer.
    pub async fn find(handle: &Handle, name: &str) -> Result<Self, NetError> {
        let links = handle.link().get().execute().try_collect();
        let links: Vec<LinkMessage> = answer("list interfaces", links).await?;
        let Some(link) = links.iter().find(|link| name_of(link) == Some(name)) else {
            let present = links.iter().filter_map(name_of).map(str::to_owned).collect();
            return Err(NetError::NoSuchInterface { name: name.to_owned(), present });
        };
        let (Some(index), Some(mac)) = (IfIndex::new(link.header.index), mac_of(link)) else {
            return Err(NetError::NotEthernet { name: name.to_owned() });
        };
        let addresses = interface_addresses(handle).await?;
        Ok(Self {
            name: name.to_owned(),
            index,
            mac,
            up: is_up(link),
            mtu: mtu_of(link),
            veth: is_veth(link),
            subnets: addresses.into_iter().filter(|(on, _)| *on == index).map(|a| a.1).collect(),
            xdp: xdp_of(link),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    #[must_use]
    pub const fn index(&self) -> IfIndex {
        self.index
    }

    /// Its hardware address.
    #[must_use]
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// Whether it is switched on and has a carrier.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Bytes of the longest IP packet that it sends; 0 where the kernel did not say.
    #[must_use]
    pub const fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether it is one end of a virtual cable.
    #[must_use]
    pub const fn is_veth(&self) -> bool {
        self.veth
    }

    /// Its IPv4 and IPv6 addresses, each with its prefix length (host bits kept).
    #[must_use]
    pub fn subnets(&self) -> &[IpNet] {
        &self.subnets
    }

    /// The XDP program on it.
    #[must_use]
    pub const fn xdp(&self) -> Option<XdpAttachment> {
        self.xdp
    }

    /// Its address in which to ask for a VIP; `None` where it has none of that family but VIPs.
    #[must_use]
    pub fn asks(&self, vip: IpAddr, vips: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        asking(&self.subnets, vip, vips)
    }

    /// Whether `address` lies in one of its subnets, so that a neighbour there has it.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|net| net.contains(&address))
    }

    /// Whether a balancer for `vips`, of either family, can work on it.
    ///
    /// # Errors
    /// It is down, has no address, or lacks the subnet of a VIP.
    pub fn usable_for(&self, vips: &[IpAddr]) -> Result<(), NetError> {
        let name = || self.name.clone();
        if !self.up {
            return Err(NetError::InterfaceDown { name: name() });
        }
        if self.subnets.is_empty() {
            return Err(NetError::NoAddress { name: name() });
        }
        let Some(vip) = vips.iter().find(|vip| !self.reaches(**vip)) else { return Ok(()) };
        let same_family = |net: &&IpNet| net.addr().is_ipv4() == vip.is_ipv4();
        Err(NetError::VipOutside {
            vip: *vip,
            interface: name(),
            subnets: self.subnets.iter().filter(same_family).copied().collect(),
        })
    }
}

pub(super) fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.as_str()) } else { None }
    })
}

pub(super) fn mac_of(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|attribute| {
        let LinkAttribute::Address(bytes) = attribute else { return None };
        Mac::new(bytes.as_slice().try_into().ok()?)
    })
}

pub(super) const fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up.union(LinkFlags::LowerUp))
}

fn mtu_of(link: &LinkMessage) -> u32 {
    let mtu = |attribute: &LinkAttribute| {
        if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None }
    };
    link.attributes.iter().find_map(mtu).unwrap_or_default()
}

fn is_veth(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else { return false };
        infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)))
    })
}

fn xdp_of(link: &LinkMessage) -> Option<XdpAttachment> {
    let parts = link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Xdp(parts) = attribute { Some(parts.as_slice()) } else { None }
    })?;
    // With several programs, one in each mode, the kernel leaves out IFLA_XDP_PROG_ID; without any it
    // names none (rtnl_xdp_fill).
    let id = |wanted: fn(&LinkXdp) -> Option<u32>| parts.iter().find_map(wanted);
    let generic = id(|part| if let LinkXdp::SkbProgId(id) = part { Some(*id) } else { None });
    let prog_id = id(|part| if let LinkXdp::ProgId(id) = part { Some(*id) } else { None })
        .or_else(|| id(|part| if let LinkXdp::DrvProgId(id) = part { Some(*id) } else { None }))
        .or(generic)
        .or_else(|| id(|part| if let LinkXdp::HwProgId(id) = part { Some(*id) } else { None }))?;
    Some(XdpAttachment { prog_id, generic: generic == Some(prog_id) })
}
