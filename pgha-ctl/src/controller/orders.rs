//! What operators set, kept in the store: a change is in force when it is durable there, and what another
//! process writes there is in force here. While the store cannot be read, what is known stays in force.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgha_machine::balancer::{Event, OrderChange, Orders};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Controller;
use super::named;
use super::status::{
    OrderKind, OrderReply, OrderRequest, ReaderReply, ReaderRequest, Refusal, SCHEMA, StoreStatus,
};
use crate::store::{Key, Mark, Reading, Slot, Store as _, change};

/// The key of the record.
pub(super) const KEY: &str = "orders";
/// Number of the record's form. One of another form is left alone: a newer pgha knows more.
const FORM: u32 = 1;
/// How long a start waits for the store, before it goes on with what the data plane remembers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a store that cannot be read is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is seen that the store is still there.
const TEND: Duration = Duration::from_secs(10);

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// The record.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    form: u32,
    orders: Orders,
}

/// A record that is none of ours.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("the record {KEY} of the store cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error(
        "the record {KEY} of the store has form {0}, and this pgha knows form {FORM}; use a newer one"
    )]
    Form(u32),
}

fn decode(value: &[u8]) -> Result<Orders, RecordError> {
    #[derive(Deserialize)]
    struct Form {
        form: u32,
    }
    let Form { form } = serde_json::from_slice(value)?;
    if form != FORM {
        return Err(RecordError::Form(form));
    }
    let Record { orders, .. } = serde_json::from_slice(value)?;
    Ok(orders)
}

fn encode(orders: Orders) -> Result<Vec<u8>, RecordError> {
    Ok(serde_json::to_vec(&Record { form: FORM, orders })?)
}

/// What happened to the store.
#[derive(Debug)]
pub(super) enum Kept {
    /// This is what it holds.
    Read(Reading),
    /// It is there and can be written.
    Answers,
    /// It cannot be used.
    Failed(String),
    /// A change ended.
    Changed(Result<Reading, String>, Asked),
}

/// Who waits for a change.
#[derive(Debug)]
pub(super) enum Asked {
    /// Nobody: what the data plane remembers was taken over.
    Import,
    /// An operator, for servers of these services.
    Order(Vec<(IpAddr, u16)>, Reply<OrderReply>),
    /// An operator, for a reader.
    Reader(Reply<ReaderReply>),
}

/// The controller's hold on the store.
#[derive(Debug)]
pub(super) struct Book {
    slot: Slot,
    path: PathBuf,
    key: Key,
    /// What was taken in last.
    taken: Option<Mark>,
    /// The record as it was last read is none of ours.
    foreign: bool,
    /// Why the store cannot be used, and since when.
    trouble: Option<(String, SystemTime)>,
    tell: mpsc::Sender<Kept>,
    told: mpsc::Receiver<Kept>,
    watching: Option<JoinHandle<()>>,
}

impl Book {
    pub(super) fn new(path: &Path) -> Self {
        let (tell, told) = mpsc::channel(16);
        let key = KEY.parse().expect("a constant that is a key");
        Self {
            slot: Slot::new(path),
            path: path.to_owned(),
            key,
            taken: None,
            foreign: false,
            trouble: None,
            tell,
            told,
            watching: None,
        }
    }

    /// The store itself, for the API.
    pub(super) fn store(&self) -> Slot {
        self.slot.clone()
    }

    /// What happens next to the store.
    pub(super) async fn next(&mut self) -> Option<Kept> {
        self.told.recv().await
    }

    /// Follows the record from here on.
    fn follow(&mut self) {
        let (slot, key, tell) = (self.slot.clone(), self.key.clone(), self.tell.clone());
        self.watching = Some(tokio::spawn(follow(slot, key, self.taken, tell)));
    }

    fn change(&self, base: Orders, changes: Vec<OrderChange>, by: String, asked: Asked) {
        let (slot, key, tell) = (self.slot.clone(), self.key.clone(), self.tell.clone());
        let at = seconds(SystemTime::now());
        // Beside the loop, which waits for no disk.
        tokio::spawn(async move {
            let changed = change(&slot, &key, |found| {
                let mut orders = found.value.as_deref().map_or_else(|| Ok(base.clone()), decode)?;
                changes.iter().for_each(|change| orders.change(change, &by, at));
                encode(orders)
            });
            let changed = changed.await.map_err(|error| error.to_string());
            let _ = tell.send(Kept::Changed(changed, asked)).await;
        });
    }

    fn failed(&mut self, error: String) {
        if self.trouble.as_ref().is_none_or(|(known, _)| *known != error) {
            tracing::warn!("orders are neither read nor taken; those that are known stay: {error}");
        }
        let since = self.trouble.take().map_or_else(SystemTime::now, |(_, since)| since);
        self.trouble = Some((error, since));
    }

    fn answers(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the store answers");
        }
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            kind: "local".to_owned(),
            path: self.path.clone(),
            incarnation: self.taken.map(|mark| mark.incarnation.to_string()),
            revision: self.taken.map(|mark| mark.revision),
            answers: self.trouble.is_none(),
            error: self.trouble.as_ref().map(|(error, _)| error.clone()),
            stale_since: self.trouble.as_ref().map(|(_, since)| seconds(*since)),
        }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        if let Some(task) = &self.watching {
            task.abort();
        }
    }
}

/// Tells what the store holds whenever that is something else, and how the store is.
async fn follow(slot: Slot, key: Key, mut seen: Option<Mark>, tell: mpsc::Sender<Kept>) {
    let mut tend = tokio::time::interval(TEND);
    loop {
        let reading = async {
            match seen {
                Some(mark) => slot.watch(&key, mark).await,
                None => slot.get(&key).await,
            }
        };
        let kept = tokio::select! {
            reading = reading => match reading {
                Ok(reading) => {
                    seen = Some(reading.mark);
                    Kept::Read(reading)
                }
                Err(error) => {
                    tokio::time::sleep(AGAIN).await;
                    Kept::Failed(error.to_string())
                }
            },
            _ = tend.tick() => match slot.tend().await {
                Ok(put_back) => {
                    if put_back {
                        tracing::warn!("somebody removed the store's file; it is put back");
                    }
                    Kept::Answers
                }
                Err(error) => Kept::Failed(error.to_string()),
            },
        };
        if tell.send(kept).await.is_err() {
            return;
        }
    }
}

impl Controller {
    /// Reads the orders before anything is decided, if the store lets it.
    pub(super) async fn read_orders(&mut self) {
        let reading = tokio::time::timeout(PATIENCE, self.book.slot.get(&self.book.key)).await;
        match reading {
            Ok(Ok(reading)) => self.take_in_orders(&reading),
            Ok(Err(error)) => self.book.failed(error.to_string()),
            Err(_) => {
                let error = format!(
                    "the store {} was not read within {} s; see that its disk is well",
                    self.book.path.display(),
                    PATIENCE.as_secs()
                );
                self.book.failed(error);
            }
        }
        self.book.follow();
    }

    /// Takes in what happened to the store.
    pub(super) fn kept(&mut self, kept: Kept) {
        match kept {
            Kept::Read(reading) => {
                self.take_in_orders(&reading);
                self.program();
            }
            // It can be used; whether what it holds can be read has its own event.
            Kept::Answers if self.book.taken.is_some() && !self.book.foreign => {
                self.book.answers();
            }
            Kept::Answers => {}
            Kept::Failed(error) => self.book.failed(error),
            Kept::Changed(changed, asked) => {
                if let Ok(reading) = &changed {
                    self.take_in_orders(reading);
                    // The reply says what is, so the maps come first.
                    self.program();
                }
                self.reply(changed.map(drop), asked);
            }
        }
    }

    fn take_in_orders(&mut self, reading: &Reading) {
        if self.book.taken.is_some_and(|taken| !reading.mark.is_after(taken)) {
            return;
        }
        let Some(value) = &reading.value else {
            self.book.taken = Some(reading.mark);
            self.book.answers();
            self.import();
            return;
        };
        let decoded = decode(value);
        self.book.foreign = decoded.is_err();
        match decoded {
            Ok(orders) => {
                self.book.taken = Some(reading.mark);
                self.book.answers();
                let event = Event::Ordered { orders, wall: milliseconds(SystemTime::now()) };
                self.balancer.handle(self.now(), event);
            }
            Err(error) => self.book.failed(error.to_string()),
        }
    }

    /// Has an empty store keep what the data plane remembers.
    fn import(&mut self) {
        let orders = self.balancer.orders();
        if orders != Orders::default() {
            tracing::info!("an empty store takes over the orders that the data plane remembers");
            self.book.change(orders, Vec::new(), String::new(), Asked::Import);
        }
    }

    fn reply(&mut self, changed: Result<(), String>, asked: Asked) {
        let changed = changed
            .map_err(|error| Refusal { error: format!("not kept, so not in force: {error}") });
        // Whoever asked may be gone by now.
        match asked {
            Asked::Import => {
                if let Err(Refusal { error }) = changed {
                    tracing::warn!("the orders that the data plane remembers are {error}");
                }
            }
            Asked::Order(services, reply) => {
                let _ = reply.send(changed.map(|()| {
                    let mut views = self.balancer.view();
                    views.retain(|view| services.contains(&(view.vip, view.port)));
                    OrderReply { schema: SCHEMA, services: views }
                }));
            }
            Asked::Reader(reply) => {
                let readers = || self.balancer.orders().readers;
                let reply_of = |()| ReaderReply { schema: SCHEMA, readers: readers() };
                let _ = reply.send(changed.map(reply_of));
            }
        }
    }

    /// Weight, drain, undrain.
    pub(super) fn order(&mut self, request: &OrderRequest, by: String, reply: Reply<OrderReply>) {
        match self.order_changes(request) {
            Ok((services, changes)) => {
                tracing::info!(by, server = request.server, order = ?request.order, "ordered");
                let asked = Asked::Order(services, reply);
                self.book.change(self.balancer.orders(), changes, by, asked);
            }
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn order_changes(
        &self,
        request: &OrderRequest,
    ) -> Result<(Vec<(IpAddr, u16)>, Vec<OrderChange>), Refusal> {
        let server = self.server_named(&request.server)?;
        let address = server.address;
        let orders = self.balancer.orders();
        // What was ordered for a server that is away can be taken back.
        let known = |(vip, port): (IpAddr, u16)| {
            self.balancer.has_member((vip, port), address)
                || orders.server(vip, port, address).is_some()
        };
        let services: Vec<_> = self
            .config
            .services()
            .iter()
            .filter(|service| server.allows(service.port))
            .filter(|service| {
                request.service.as_ref().is_none_or(|name| named::is_service(service, name))
            })
            .map(|service| (service.vip, service.port))
            .filter(|service| known(*service))
            .collect();
        if services.is_empty() {
            let of =
                request.service.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
            return Err(Refusal::of(format!(
                "{} is no real server{of}; `pgha status` lists them",
                request.server
            )));
        }
        let now = milliseconds(SystemTime::now());
        let change = |(vip, port): &(IpAddr, u16)| {
            let (vip, port) = (*vip, *port);
            match request.order {
                OrderKind::Weight { weight } => OrderChange::Weight { vip, port, address, weight },
                OrderKind::Drain { reset_after_ms } => {
                    let reset_at = reset_after_ms.map(|after| now.saturating_add(after));
                    OrderChange::Drain { vip, port, address, reset_at }
                }
                OrderKind::Undrain => OrderChange::Undrain { vip, port, address },
            }
        };
        let changes = services.iter().map(change).collect();
        Ok((services, changes))
    }

    /// A reader added, or removed again.
    pub(super) fn reader(&mut self, request: ReaderRequest, by: String, reply: Reply<ReaderReply>) {
        let orders = self.balancer.orders();
        match self.reader_change(request, &orders) {
            Ok(change) => {
                tracing::info!(by, ?change, "ordered");
                self.book.change(orders, vec![change], by, Asked::Reader(reply));
            }
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    fn reader_change(
        &self,
        request: ReaderRequest,
        orders: &Orders,
    ) -> Result<OrderChange, Refusal> {
        let refuse = |error: String| Err(Refusal { error });
        match request {
            ReaderRequest::Add { address, name, weight } => {
                let address = address.to_canonical();
                if !is_host(address) {
                    return refuse(format!(
                        "{address} is not the address of one host on a network"
                    ));
                }
                if let Some(service) = self.config.services().iter().find(|s| s.vip == address) {
                    let of = &service.name;
                    return refuse(format!(
                        "{address} is the VIP of service {of}; give the server's own address"
                    ));
                }
                let nodes = self.config.nodes().iter().map(|node| (&node.name, node.address));
                let readers =
                    orders.readers.iter().filter_map(|r| Some((r.name.as_ref()?, r.address)));
                let mut others = nodes.chain(readers).filter(|(_, other)| *other != address);
                let taken = |name| others.find(|(other, _)| *other == name);
                if let Some((name, other)) = name.as_ref().and_then(taken) {
                    return refuse(format!("{name} is {other} already; give it another name"));
                }
                Ok(OrderChange::AddReader { address, name, weight })
            }
            ReaderRequest::Remove { address } => {
                let address = address.to_canonical();
                if orders.reader(address).is_none() {
                    return refuse(format!(
                        "{address} was not added as a reader; `pgha reader list` shows who was"
                    ));
                }
                Ok(OrderChange::RemoveReader { address })
            }
        }
    }
}

/// As the configuration has it for nodes.
fn is_host(address: IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let reserved =
        matches!(address, IpAddr::V4(address) if matches!(address.octets()[0], 0 | 224..));
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || link_local
        || reserved)
}

fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
