//! MAC addresses, from the kernel's neighbour table.

mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
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
use table::{Key, News, Table, entry};

/// What the kernel knows of the MAC address of `address` on one interface now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourEvent {
    /// The interface it is a neighbour on.
    pub interface: IfIndex,
    /// The neighbour.
    pub address: IpAddr,
    /// `None`: it did not answer, or the kernel dropped the entry. The kernel also drops entries
    /// nobody uses, so this alone is no sign of a dead host: [`NeighbourWatch::resolve`] it again.
    pub mac: Option<Mac>,
}

/// One change on the watched interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A neighbour's MAC.
    Neighbour(NeighbourEvent),
    /// An interface's own MAC (`None`: no longer an Ethernet one), or whether it is up with a
    /// carrier.
    Interface {
        /// Which one.
        index: IfIndex,
        /// Its hardware address.
        mac: Option<Mac>,
        /// Switched on, with a carrier.
        up: bool,
    },
    /// An interface is gone from this namespace, and is watched no more; its neighbours were
    /// reported before. Another one of its name has another index and needs another watch.
    InterfaceGone(IfIndex),
}

/// How long after a failed full read the next is tried.
const RETRY: Duration = Duration::from_millis(200);
/// So many full reads fail in a row before the watch does.
const RETRIES: u32 = 5;

type Messages = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// Watches the IPv4 and IPv6 neighbours of some interfaces, and these interfaces.
///
/// Owns two netlink sockets and the tasks that read them: on the one the kernel tells of changes, on
/// the other it answers requests. When it drops notices because they came too fast (ENOBUFS), the
/// whole table is read again, and what changed meanwhile is reported; on one socket it would drop
/// answers with them, and nobody asks twice.
pub struct NeighbourWatch {
    requests: Netlink,
    messages: Messages,
    /// The connection ends with it.
    _handle: Handle,
    task: JoinHandle<()>,
    table: Table,
    /// Those watched, with what was reported last of each.
    interfaces: BTreeMap<IfIndex, Option<(Option<Mac>, bool)>>,
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
    pub fn new(interfaces: &[IfIndex]) -> Result<Self, NetError> {
        let groups = [MulticastGroup::Neigh, MulticastGroup::Link];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| NetError::Socket { what: "subscribe to neighbours", source })?;
        Ok(Self {
            requests: Netlink::connect()?,
            _handle: handle,
            messages: Box::pin(messages.map(|(message, _)| message)),
            task: tokio::spawn(connection),
            table: Table::default(),
            interfaces: interfaces.iter().map(|index| (*index, None)).collect(),
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

    /// Makes the kernel find out the MAC of `address` on one of the interfaces by ARP or neighbour
    /// solicitation, or confirm a stale one. The result comes as a change. An entry that nobody confirms grows stale, and the data plane's traffic
    /// confirms none: call this again from time to time.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn resolve(&self, interface: IfIndex, address: IpAddr) -> Result<(), NetError> {
        // NTF_USE starts resolution as sending a packet would (neigh_add in neighbour.c). Without
        // NLM_F_REPLACE the request carries NLM_F_EXCL, which refuses known entries.
        let request = self
            .requests
            .handle()
            .neighbours()
            .add(interface.get(), address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        answer("resolve a neighbour", request.execute()).await
    }

    async fn catch_up(&mut self) -> Result<(), NetError> {
        let handle = self.requests.handle();
        let mut links = Vec::new();
        for index in self.interfaces.keys() {
            links.push((*index, find_link(handle, *index).await?));
        }
        let neighbours = handle.neighbours().get().set_address_family(AddressFamily::Unspec);
        let neighbours: Vec<NeighbourMessage> =
            answer("read the neighbour table", neighbours.execute().try_collect()).await?;
        for (index, link) in links {
            match link {
                Some(link) => self.link_is(index, &link),
                None => self.is_gone(index),
            }
        }
        let known = neighbours.iter().filter_map(entry);
        let known = known.filter(|((interface, _), _)| self.interfaces.contains_key(interface));
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
            if let Some(index) = self.ours(link) {
                self.link_is(index, link);
            }
        } else if let RouteNetlinkMessage::DelLink(link) = &message {
            if let Some(index) = self.ours(link) {
                self.is_gone(index);
            }
        } else if let RouteNetlinkMessage::NewNeighbour(neighbour) = &message {
            self.neighbour_is(entry(neighbour));
        } else if let RouteNetlinkMessage::DelNeighbour(neighbour) = &message {
            self.neighbour_is(entry(neighbour).map(|(key, _)| (key, News::Removed)));
        }
    }

    fn neighbour_is(&mut self, news: Option<(Key, News)>) {
        let ours = news.filter(|((interface, _), _)| self.interfaces.contains_key(interface));
        let event = ours.and_then(|(key, news)| self.table.apply(key, news));
        self.pending.extend(event.map(Change::Neighbour));
    }

    /// The watched interface a message is about. A bridge sends RTM_DELLINK of family AF_BRIDGE for
    /// a port that merely leaves it.
    fn ours(&self, link: &LinkMessage) -> Option<IfIndex> {
        let index = IfIndex::new(link.header.index)?;
        let whole = link.header.interface_family == AddressFamily::Unspec;
        (whole && self.interfaces.contains_key(&index)).then_some(index)
    }

    fn link_is(&mut self, index: IfIndex, link: &LinkMessage) {
        let (mac, up) = (mac_of(link), is_up(link));
        if self.interfaces.insert(index, Some((mac, up))) != Some(Some((mac, up))) {
            self.pending.push_back(Change::Interface { index, mac, up });
        }
    }

    fn is_gone(&mut self, index: IfIndex) {
        self.interfaces.remove(&index);
        self.pending.extend(self.table.forget(index).into_iter().map(Change::Neighbour));
        self.pending.push_back(Change::InterfaceGone(index));
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

/// `None`: it is gone.
async fn find_link(handle: &Handle, index: IfIndex) -> Result<Option<LinkMessage>, NetError> {
    let links = handle.link().get().match_index(index.get()).execute().try_collect();
    let links: Result<Vec<_>, _> = answer("read the interface", links).await;
    match links {
        Err(NetError::Netlink { source, .. }) if errno(&source) == Some(Errno::ENODEV) => Ok(None),
        result => Ok(result?.into_iter().next()),
    }
}
