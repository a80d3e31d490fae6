use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use super::error::NetError;
use super::link::IfIndex;
use super::netlink::answer;

/// Every IPv4 address of this node (of the network namespace of the connection).
///
/// # Errors
/// The kernel did not answer.
pub async fn local_addresses(handle: &Handle) -> Result<BTreeSet<Ipv4Addr>, NetError> {
    Ok(interface_addresses(handle).await?.into_iter().map(|(_, net)| net.addr()).collect())
}

/// Every IPv4 address with the interface it is on.
pub(super) async fn interface_addresses(
    handle: &Handle,
) -> Result<Vec<(IfIndex, Ipv4Net)>, NetError> {
    let mut request = handle.address().get();
    request.message_mut().header.family = AddressFamily::Inet;
    let messages: Vec<_> = answer("list addresses", request.execute().try_collect()).await?;
    Ok(messages.iter().filter_map(address).collect())
}

/// IFA_LOCAL is the own address; IFA_ADDRESS is the other end's on a point-to-point link.
fn address(message: &AddressMessage) -> Option<(IfIndex, Ipv4Net)> {
    let local = message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::Local(IpAddr::V4(local)) = attribute { Some(*local) } else { None }
    })?;
    let net = Ipv4Net::new(local, message.header.prefix_len).ok()?;
    Some((IfIndex::new(message.header.index)?, net))
}
