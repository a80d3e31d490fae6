//! MAC addresses, from the kernel's neighbour table.

mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use nix::errno::Errno;
use pgha_machine::Mac;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::error::{NetError, errno};
use super::link::{IfIndex, is_up, mac_of};
use super::netlink::{Netlink, answer};
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

/// How long after a failed full read the next is tried.
const RETRY: Duration = Duration::from_millis(200);
/// So many full reads fail in a row before the watch does.
const RETRIES: u32 = 5;

type Messages = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// Watches the IPv4 neighbours of one interface, and that interface.
///
/// Owns two netlink sockets and the tasks that read them: on the one the kernel tells of changes, on
/// the other it answers requests. When it drops notices because they came too fast (ENOBUFS), the
/// whole table is read again, and what changed meanwhile is reported; on one socket it would drop
/// answers with them, and nobody asks twice.
pub struct NeighbourWatch {
    index: IfIndex,
    requests: Netlink,
    messages: Messages,
    /// The connection ends with it.
    _handle: Handle,
    task: JoinHandle<()>,
    table: Table,
    interface: Option<(Option<Mac>, bool)>,
    pending: VecDeque<Change>,
    /// When a full read is due: at the start, after an overrun, after one that failed.
    behind: Option<Instant>,
    /// Full reads that failed in a row.
    failures: u32,
}

impl NeighbourWatch {
    /// Subscribes; the first calls of [`NeighbourWatch::next`] give what is known already.
    ///
    /// # Errors
    /// A socket cannot be opened or subscribed.
    pub fn new(index: IfIndex) -> Result<Self, NetError> {
        let groups = [MulticastGroup::Neigh, MulticastGroup::Link];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| NetError::Socket { what: "subscribe to neighbours", source })?;
        Ok(Self {
            index,
            requests: Netlink::connect()?,
            _handle: handle,
            messages: Box::pin(messages.map(|(message, _)| message)),
            task: tokio::spawn(connection),
            table: Table::default(),
            interface: None,
            pending: VecDeque::new(),
            behind: Some(Instant::now()),
            failures: 0,
        })
    }

    /// The next change. Cancel-safe: a change is given up only when it is returned.
    ///
    /// # Errors
    /// The kernel refused several reads of the table in a row, or closed the socket: make a new
    /// watch.
    pub async fn next(&mut self) -> Result<Change, NetError> {
        loop {
            if self.behind.is_some_and(|due| due <= Instant::now()) {
                let read = self.catch_up().await;
                self.caught_up(read)?;
            }
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            tokio::select! {
                message = self.messages.next() => {
                    let Some(message) = message else {
                        return Err(NetError::NetlinkClosed { what: "watch neighbours" });
                    };
                    self.take(message.payload);
                }
                () = until(self.behind) => {}
            }
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
        let request = self
            .requests
            .handle()
            .neighbours()
            .add(self.index.get(), IpAddr::V4(address))
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        answer("resolve a neighbour", request.execute()).await
    }

    async fn catch_up(&mut self) -> Result<(), NetError> {
        let handle = self.requests.handle();
        let links = handle.link().get().match_index(self.index.get()).execute().try_collect();
        let links: Vec<LinkMessage> = match answer("read the interface", links).await {
            Err(NetError::Netlink { source, .. }) if errno(&source) == Some(Errno::ENODEV) => {
                Vec::new()
            }
            result => result?,
        };
        let neighbours = handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let neighbours: Vec<NeighbourMessage> =
            answer("read the neighbour table", neighbours.execute().try_collect()).await?;
        match links.first() {
            Some(link) => self.link_is(link),
            None => self.pending.push_back(Change::InterfaceGone),
        }
        let known = neighbours.iter().filter_map(|message| entry(message, self.index));
        let changes = self.table.replace(known);
        self.pending.extend(changes.into_iter().map(Change::Neighbour));
        Ok(())
    }

    fn caught_up(&mut self, read: Result<(), NetError>) -> Result<(), NetError> {
        let Err(error) = read else {
            (self.behind, self.failures) = (None, 0);
            return Ok(());
        };
        self.failures += 1;
        if self.failures > RETRIES {
            return Err(error);
        }
        tracing::warn!("trying again in {} ms: {error}", RETRY.as_millis());
        self.behind = Some(Instant::now() + RETRY);
        Ok(())
    }

    fn take(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) {
        if matches!(payload, NetlinkPayload::Overrun(_)) {
            self.behind = Some(Instant::now());
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

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
