//! MAC addresses, from the kernel's neighbour table.

mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use nix::errno::Errno;
use pgha_machine::Mac;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

use super::error::{NetError, errno};
use super::link::{IfIndex, is_up, mac_of};
use table::{News, Table, entry};

/// What the kernel knows of the MAC address of `address` now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourEvent {
    /// The neighbour.
    pub address: Ipv4Addr,
    /// `None`: it did not answer ARP, or the kernel dropped the entry. The kernel also drops
    /// entries nobody uses, so this alone is no sign of a dead host: [`NeighbourWatch::resolve`]
    /// it again.
    pub mac: Option<Mac>,
}

/// One change on the watched interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A neighbour's MAC.
    Neighbour(NeighbourEvent),
    /// The interface's own MAC (`None`: no longer an Ethernet one), or whether it is up with a
    /// carrier.
    Interface {
        /// Its hardware address.
        mac: Option<Mac>,
        /// Switched on, with a carrier.
        up: bool,
    },
    /// The interface is gone from this namespace. Another one of its name has another index and
    /// needs another watch.
    InterfaceGone,
}

type Messages = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// Watches the IPv4 neighbours of one interface, and that interface.
///
/// Owns one netlink socket and the task that reads it. When the kernel drops notices because they
/// came too fast (ENOBUFS), the whole table is read again, and what changed meanwhile is reported.
pub struct NeighbourWatch {
    index: IfIndex,
    handle: Handle,
    messages: Messages,
    task: JoinHandle<()>,
    table: Table,
    interface: Option<(Option<Mac>, bool)>,
    pending: VecDeque<Change>,
    /// A full read is due: at the start, and after an overrun.
    behind: bool,
}

impl NeighbourWatch {
    /// Subscribes; the first calls of [`NeighbourWatch::next`] give what is known already.
    ///
    /// # Errors
    /// The socket cannot be opened or subscribed.
    pub fn new(index: IfIndex) -> Result<Self, NetError> {
        let groups = [MulticastGroup::Neigh, MulticastGroup::Link];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| NetError::Socket { what: "subscribe to neighbours", source })?;
        Ok(Self {
            index,
            handle,
            messages: Box::pin(messages.map(|(message, _)| message)),
            task: tokio::spawn(connection),
            table: Table::default(),
            interface: None,
            pending: VecDeque::new(),
            behind: true,
        })
    }

    /// The next change. Cancel-safe: a change is given up only when it is returned.
    ///
    /// # Errors
    /// The kernel refused a read of the table, or closed the socket: make a new watch.
    pub async fn next(&mut self) -> Result<Change, NetError> {
        loop {
            if self.behind {
                self.catch_up().await?;
            }
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            let Some(message) = self.messages.next().await else {
                return Err(NetError::NetlinkClosed { what: "watch neighbours" });
            };
            self.take(message.payload);
        }
    }

    /// Makes the kernel find out the MAC of `address` by ARP, or confirm a stale one. The result
    /// comes as a change. An entry that nobody confirms grows stale, and the data plane's traffic
    /// confirms none: call this again from time to time.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn resolve(&self, address: Ipv4Addr) -> Result<(), NetError> {
        // NTF_USE starts resolution as sending a packet would (neigh_add in neighbour.c). Without
        // NLM_F_REPLACE the request carries NLM_F_EXCL, which refuses known entries.
        self.handle
            .neighbours()
            .add(self.index.get(), IpAddr::V4(address))
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace()
            .execute()
            .await
            .map_err(NetError::netlink("resolve a neighbour"))
    }

    async fn catch_up(&mut self) -> Result<(), NetError> {
        let links = self.handle.link().get().match_index(self.index.get()).execute();
        let links: Vec<LinkMessage> = match links.try_collect().await {
            Err(error) if errno(&error) == Some(Errno::ENODEV) => Vec::new(),
            result => result.map_err(NetError::netlink("read the interface"))?,
        };
        let neighbours: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Inet)
            .execute()
            .try_collect()
            .await
            .map_err(NetError::netlink("read the neighbour table"))?;
        match links.first() {
            Some(link) => self.link_is(link),
            None => self.pending.push_back(Change::InterfaceGone),
        }
        let known = neighbours.iter().filter_map(|message| entry(message, self.index));
        let changes = self.table.replace(known);
        self.pending.extend(changes.into_iter().map(Change::Neighbour));
        self.behind = false;
        Ok(())
    }

    fn take(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) {
        if matches!(payload, NetlinkPayload::Overrun(_)) {
            self.behind = true;
        }
        let NetlinkPayload::InnerMessage(message) = payload else { return };
        if let RouteNetlinkMessage::NewLink(link) = &message {
            if self.is_ours(link) {
                self.link_is(link);
            }
        } else if let RouteNetlinkMessage::DelLink(link) = &message {
            if self.is_ours(link) {
                self.pending.push_back(Change::InterfaceGone);
            }
        } else if let RouteNetlinkMessage::NewNeighbour(neighbour) = &message {
            self.neighbour_is(entry(neighbour, self.index));
        } else if let RouteNetlinkMessage::DelNeighbour(neighbour) = &message {
            let removed = entry(neighbour, self.index).map(|(address, _)| (address, News::Removed));
            self.neighbour_is(removed);
        }
    }

    fn neighbour_is(&mut self, news: Option<(Ipv4Addr, News)>) {
        let event = news.and_then(|(address, news)| self.table.apply(address, news));
        self.pending.extend(event.map(Change::Neighbour));
    }

    /// A bridge sends RTM_DELLINK of family AF_BRIDGE for a port that merely leaves it.
    fn is_ours(&self, link: &LinkMessage) -> bool {
        link.header.index == self.index.get()
            && link.header.interface_family == AddressFamily::Unspec
    }

    fn link_is(&mut self, link: &LinkMessage) {
        let (mac, up) = (mac_of(link), is_up(link));
        if self.interface.replace((mac, up)) != Some((mac, up)) {
            self.pending.push_back(Change::Interface { mac, up });
        }
    }
}

impl Drop for NeighbourWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
