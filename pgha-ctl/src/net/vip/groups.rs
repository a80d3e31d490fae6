use std::collections::BTreeSet;
use std::net::IpAddr;

use socket2::{Domain, Socket, Type};

use super::frame::{ALL_NODES, solicited_node};
use crate::net::error::NetError;
use crate::net::link::Interface;

/// The interface's place in the multicast groups that neighbour discovery of some addresses uses:
/// that of all nodes, and the solicited-node group of each. The kernel joins them only for addresses
/// of its own. They are left when this is dropped.
#[derive(Debug)]
pub(super) struct Groups {
    /// Receives nothing: it is not bound. `None` where no address is IPv6.
    _member: Option<Socket>,
}

impl Groups {
    pub(super) fn join(
        interface: &Interface,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, NetError> {
        let mut groups: BTreeSet<_> = addresses
            .into_iter()
            .filter_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(address) => Some(solicited_node(address)),
            })
            .collect();
        if groups.is_empty() {
            return Ok(Self { _member: None });
        }
        groups.insert(ALL_NODES);
        let failed =
            |source| NetError::Socket { what: "join the IPv6 multicast groups of a VIP", source };
        let member = Socket::new(Domain::IPV6, Type::DGRAM, None).map_err(failed)?;
        for group in &groups {
            member.join_multicast_v6(group, interface.index().get()).map_err(failed)?;
        }
        Ok(Self { _member: Some(member) })
    }
}
