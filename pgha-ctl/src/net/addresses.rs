use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use pgha_machine::Mac;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use super::error::NetError;
use super::link::IfIndex;
use super::netlink::answer;

/// Every IPv4 and IPv6 address of this node (of the network namespace of the connection).
///
/// # Errors
/// The kernel did not answer.
pub async fn local_addresses(handle: &Handle) -> Result<BTreeSet<IpAddr>, NetError> {
    Ok(interface_addresses(handle).await?.into_iter().map(|(_, net)| net.addr()).collect())
}

/// The hardware addresses of this node's interfaces (of the network namespace of the calling thread); none where
/// the kernel does not tell.
#[must_use]
pub fn local_macs() -> BTreeSet<Mac> {
    let all = getifaddrs().into_iter().flatten().filter_map(|entry| entry.address);
    all.filter_map(|address| Mac::new(address.as_link_addr()?.addr()?)).collect()
}

/// Every IPv4 and IPv6 address with the interface it is on.
pub(super) async fn interface_addresses(
    handle: &Handle,
) -> Result<Vec<(IfIndex, IpNet)>, NetError> {
    let request = handle.address().get();
    let messages: Vec<_> = answer("list addresses", request.execute().try_collect()).await?;
    Ok(messages.iter().filter_map(address).collect())
}

/// IFA_LOCAL is the own address; beside it IFA_ADDRESS is the other end's on a point-to-point link.
/// An IPv6 address without another end comes as IFA_ADDRESS alone (inet6_fill_ifaddr in addrconf.c).
fn address(message: &AddressMessage) -> Option<(IfIndex, IpNet)> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = |attribute: &_| {
        if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None }
    };
    let only = |attribute: &_| {
        if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
    };
    let net = IpNet::new(find(local).or_else(|| find(only))?, message.header.prefix_len).ok()?;
    Some((IfIndex::new(message.header.index)?, net))
}

/// The address in which this node may ask for a VIP or its servers: of the VIP's family, if possible in its
/// subnet, then any but a link-local one. No VIP is one.
pub(super) fn asking<'a>(
    own: impl IntoIterator<Item = &'a IpNet>,
    vip: IpAddr,
    vips: &BTreeSet<IpAddr>,
) -> Option<IpAddr> {
    let usable = own
        .into_iter()
        .filter(|net| net.addr().is_ipv4() == vip.is_ipv4() && !vips.contains(&net.addr()));
    let rank = |net: &IpNet| {
        let link_local = match net.addr() {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        (!net.contains(&vip), link_local)
    };
    usable.min_by_key(|net| rank(net)).map(IpNet::addr)
}
