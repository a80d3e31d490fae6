//! A VIP on an interface of this node.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressScope, CacheInfo};

use crate::net::addresses::interface_addresses;
use crate::net::error::{NetError, errno};
use crate::net::link::Interface;
use crate::net::netlink::answer;

/// A lifetime without end (INFINITY_LIFE_TIME in addrconf.h).
const FOR_EVER: u32 = u32::MAX;

/// A VIP and the interface that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    address: IpAddr,
    interface: Interface,
}

/// Finds the interface in whose subnet a VIP lies, by the addresses that this node has without it.
///
/// # Errors
/// There is none, or the kernel does not answer.
pub async fn place(handle: &Handle, address: IpAddr) -> Result<Placed, NetError> {
    let holds = |net: &IpNet| net.contains(&address) && net.addr() != address;
    let addresses = interface_addresses(handle).await?;
    let index = addresses.iter().find(|(_, net)| holds(net)).map(|(index, _)| *index);
    let interface = match index {
        Some(index) => if_indextoname(index.get()).ok(),
        None => None,
    };
    let name = interface.as_ref().and_then(|name| name.to_str().ok());
    let name = name.ok_or(NetError::NoSubnet { address })?;
    Ok(Placed { address, interface: Interface::find(handle, name).await? })
}

impl Placed {
    /// The VIP.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Where it is put.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The same as it is now, and whether the VIP is on the interface; `None` where the interface is gone.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub async fn look(&self, handle: &Handle) -> Result<Option<(Self, bool)>, NetError> {
        let interface = match Interface::find(handle, self.interface.name()).await {
            Err(NetError::NoSuchInterface { .. } | NetError::NotEthernet { .. }) => {
                return Ok(None);
            }
            found => found?,
        };
        let here = interface.subnets().iter().any(|net| net.addr() == self.address);
        Ok(Some((Self { address: self.address, interface }, here)))
    }

    /// The length of its prefix there: it is a network by itself, so that no route comes and goes with it.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        match self.address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// Puts it there. That it is there already is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn add(&self, handle: &Handle) -> Result<(), NetError> {
        let index = self.interface.index().get();
        let mut request = handle.address().add(index, self.address, self.prefix());
        let message = request.message_mut();
        match self.address {
            IpAddr::V4(_) => message.header.scope = AddressScope::Universe,
            // That nobody else has it is proven otherwise, and to ask takes a second (RFC 4862, 5.4). It is
            // deprecated, or this node would talk to its neighbours from it: it is nearer to them than the
            // node's own address is (RFC 6724, section 5, rules 3 and 8).
            IpAddr::V6(_) => {
                let mut lifetimes = CacheInfo::default();
                (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, FOR_EVER);
                let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                message.attributes.extend([flags, AddressAttribute::CacheInfo(lifetimes)]);
            }
        }
        match answer("add a VIP", request.execute()).await {
            Err(NetError::Netlink { source, .. }) if errno(&source) == Some(Errno::EEXIST) => {
                Ok(())
            }
            result => result,
        }
    }

    /// Takes it off, whatever prefix it was put on with; whether it was there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove(&self, handle: &Handle) -> Result<bool, NetError> {
        let request = handle
            .address()
            .get()
            .set_link_index_filter(self.interface.index().get())
            .set_address_filter(self.address);
        let found: Vec<_> = answer("list addresses", request.execute().try_collect()).await?;
        let mut was_there = false;
        for message in found {
            match answer("remove a VIP", handle.address().del(message).execute()).await {
                Ok(()) => was_there = true,
                Err(NetError::Netlink { source, .. })
                    if errno(&source) == Some(Errno::EADDRNOTAVAIL) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(was_there)
    }
}
