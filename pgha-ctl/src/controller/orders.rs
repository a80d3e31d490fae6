//! What operators set, kept in the store: a change is in force when it is durable there, and what another
//! process writes there is in force here. While the store cannot be read, what is known stays in force.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::SystemTime;

use pgha_machine::NodeName;
use pgha_machine::balancer::{Event, OrderChange, Orders};

use super::book::{Asked, Kept, NotKept, PATIENCE, Reply, Wanted, decode, hangs, milliseconds};
use super::events::{Happening, Kind};
use super::status::{
    OrderKind, OrderReply, OrderRequest, ReaderReply, ReaderRequest, Refusal, SCHEMA,
};
use super::{Controller, named, ordered};
use crate::config::Peer;
use crate::store::{Reading, Store as _};

impl Controller {
    /// Reads the orders before anything is decided, if the store lets it.
    pub(super) async fn read_orders(&mut self) {
        let reading = tokio::time::timeout(PATIENCE, self.book.store.get(&self.book.key)).await;
        match reading {
            Ok(Ok(reading)) => self.take_in_orders(&reading),
            Ok(Err(error)) => self.store_failed(error.to_string()),
            Err(_) => self.store_failed(hangs(&self.book.place)),
        }
        self.book.follow();
    }

    fn store_failed(&mut self, error: String) {
        if let Some(happening) = self.book.failed(error) {
            self.tell(happening);
        }
    }

    fn store_answers(&mut self) {
        if let Some(happening) = self.book.answers() {
            self.tell(happening);
        }
    }

    /// Takes in what happened to the store.
    pub(super) fn kept(&mut self, kept: Kept) {
        match kept {
            Kept::Read(reading) => {
                self.take_in_orders(&reading);
                self.program();
            }
            Kept::Answers { put_back } => {
                if put_back {
                    let text = "somebody removed the store's file; it is put back";
                    self.tell(Happening::warning(Kind::StoreFailed, text));
                }
                // It can be used; whether what it holds can be read has its own event.
                if self.book.taken.is_some() && !self.book.foreign {
                    self.store_answers();
                }
                if std::mem::take(&mut self.book.unimported) {
                    self.import();
                }
            }
            Kept::Failed(error) => self.store_failed(error),
            Kept::Changed(changed, Wanted { changes, by, asked }) => {
                match &changed {
                    Ok(reading) => {
                        self.book.unimported = false;
                        self.book.unimported_told = false;
                        self.take_in_orders(reading);
                        // The reply says what is, so the maps come first.
                        self.program();
                        for change in &changes {
                            self.tell(ordered::told(change, Some(&by)));
                        }
                    }
                    Err(error) => {
                        self.book.unimported |= matches!(asked, Asked::Import);
                        if let Some(trouble) = error.trouble() {
                            self.store_failed(trouble.to_owned());
                        }
                    }
                }
                self.book.over(&changes);
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
            self.store_answers();
            self.import();
            return;
        };
        let decoded = decode(value);
        self.book.foreign = decoded.is_err();
        match decoded {
            Ok(orders) => {
                let first = self.book.taken.replace(reading.mark).is_none();
                self.store_answers();
                if !first {
                    self.tell_others_orders(&orders);
                }
                let event = Event::Ordered { orders, wall: milliseconds(SystemTime::now()) };
                self.balancer.handle(self.now(), event);
            }
            Err(error) => self.store_failed(error.to_string()),
        }
    }

    /// What another process wrote. What this one writes is told when that has ended, with who wanted it.
    fn tell_others_orders(&mut self, orders: &Orders) {
        for (change, by) in ordered::between(&self.balancer.orders(), orders) {
            if !self.book.is_under_way(&change) {
                self.tell(ordered::told(&change, by.as_deref()));
            }
        }
    }

    /// Has an empty store keep what the data plane remembers.
    fn import(&mut self) {
        let orders = self.balancer.orders();
        if orders != Orders::default() {
            tracing::info!("an empty store takes over the orders that the data plane remembers");
            let wanted = Wanted { changes: Vec::new(), by: String::new(), asked: Asked::Import };
            self.book.change(orders, wanted);
        }
    }

    fn reply(&mut self, changed: Result<(), NotKept>, asked: Asked) {
        let changed = changed.map_err(|error| Refusal { error: error.to_string() });
        // Whoever asked may be gone by now.
        match asked {
            Asked::Import => {
                // It is tried again and again: once is enough.
                if let Err(Refusal { error }) = changed
                    && !std::mem::replace(&mut self.book.unimported_told, true)
                {
                    let text = format!("orders that the data plane remembers: {error}");
                    self.tell(Happening::warning(Kind::StoreFailed, text));
                }
            }
            Asked::Order(services, reply) => {
                let _ = reply.send(changed.map(|()| {
                    let mut views = self.balancer.view();
                    views.retain(|view| services.contains(&(view.vip, view.port)));
                    OrderReply {
                        schema: SCHEMA,
                        services: views,
                        apart: self.apart(),
                        peers: self.peers().cloned().collect(),
                    }
                }));
            }
            Asked::Reader(reply) => {
                let readers = || self.balancer.orders().readers;
                let reply_of =
                    |()| ReaderReply { schema: SCHEMA, readers: readers(), apart: self.apart() };
                let _ = reply.send(changed.map(reply_of));
            }
        }
    }

    /// The other directors, where each has a store of its own.
    fn apart(&self) -> Vec<NodeName> {
        self.book.status().apart(self.peers())
    }

    /// The other directors.
    fn peers(&self) -> impl Iterator<Item = &NodeName> {
        self.config.director().peers().iter().map(Peer::name)
    }

    /// Weight, drain, undrain.
    pub(super) fn order(&mut self, request: &OrderRequest, by: String, reply: Reply<OrderReply>) {
        match self.order_changes(request) {
            Ok((services, changes)) => {
                let asked = Asked::Order(services, reply);
                self.book.change(self.balancer.orders(), Wanted { changes, by, asked });
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
                let wanted = Wanted { changes: vec![change], by, asked: Asked::Reader(reply) };
                self.book.change(orders, wanted);
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
