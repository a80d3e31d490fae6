//! What operators set, by whom and when: plain data that the store keeps.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Balancer;
use super::member::{OrderedHere, Steering};
use super::probe::Path;
use super::reasons::Stamp;
use crate::{Moment, NodeName, Weight};

/// Everything that operators set for servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Weights and drains; no two for the same server of the same service, none empty.
    pub servers: Vec<ServerOrder>,
    /// Servers added as readers; no two with the same address.
    pub readers: Vec<ReaderOrder>,
}

/// What is set for one server of one service. It outlives the server's absence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerOrder {
    /// The service's address.
    pub vip: IpAddr,
    /// The service's port.
    pub port: u16,
    /// The server's address.
    pub address: IpAddr,
    /// Its weight, in place of the configuration's.
    pub weight: Option<Ordered<Weight>>,
    /// It gets no new connections.
    pub drained: Option<Ordered<Drain>>,
}

/// A drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When the sessions left are reset: milliseconds since the Unix epoch. `None`: never.
    pub reset_at: Option<u64>,
}

/// Something that somebody set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered<T> {
    /// What was set.
    pub value: T,
    /// By whom.
    pub by: String,
    /// When: seconds since the Unix epoch.
    pub at: u64,
}

/// A server that an operator added as a reader: a member of every service, however it finds others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderOrder {
    /// Its address.
    pub address: IpAddr,
    /// Its name, where it has one.
    pub name: Option<NodeName>,
    /// Its weight in every service, where it has one of its own.
    pub weight: Option<Weight>,
    /// Who added it.
    pub by: String,
    /// When: seconds since the Unix epoch.
    pub at: u64,
}

/// One change of [`Orders`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderChange {
    /// This weight, or the configuration's again.
    Weight {
        /// The service's address.
        vip: IpAddr,
        /// The service's port.
        port: u16,
        /// The server.
        address: IpAddr,
        /// `None`: the configuration's.
        weight: Option<Weight>,
    },
    /// No new connections.
    Drain {
        /// The service's address.
        vip: IpAddr,
        /// The service's port.
        port: u16,
        /// The server.
        address: IpAddr,
        /// See [`Drain::reset_at`].
        reset_at: Option<u64>,
    },
    /// New connections again.
    Undrain {
        /// The service's address.
        vip: IpAddr,
        /// The service's port.
        port: u16,
        /// The server.
        address: IpAddr,
    },
    /// A member of every service; one that is there already takes this name and weight.
    AddReader {
        /// Its address.
        address: IpAddr,
        /// Its name.
        name: Option<NodeName>,
        /// Its weight in every service.
        weight: Option<Weight>,
    },
    /// No member by an operator's word any more.
    RemoveReader {
        /// Its address.
        address: IpAddr,
    },
}

impl Orders {
    /// Takes a change in, made by somebody at so many seconds since the Unix epoch. An entry that says
    /// nothing any more vanishes.
    pub fn change(&mut self, change: &OrderChange, by: &str, at: u64) {
        let by = by.to_owned();
        match change {
            OrderChange::Weight { vip, port, address, weight } => {
                let order = self.server_mut(*vip, *port, *address);
                order.weight = weight.map(|value| Ordered { value, by, at });
            }
            OrderChange::Drain { vip, port, address, reset_at } => {
                let value = Drain { reset_at: *reset_at };
                self.server_mut(*vip, *port, *address).drained = Some(Ordered { value, by, at });
            }
            OrderChange::Undrain { vip, port, address } => {
                self.server_mut(*vip, *port, *address).drained = None;
            }
            OrderChange::AddReader { address, name, weight } => {
                let (address, name, weight) = (*address, name.clone(), *weight);
                self.readers.retain(|reader| reader.address != address);
                self.readers.push(ReaderOrder { address, name, weight, by, at });
            }
            OrderChange::RemoveReader { address } => {
                self.readers.retain(|reader| reader.address != *address);
            }
        }
        self.servers.retain(|order| order.weight.is_some() || order.drained.is_some());
    }

    /// What is set for one server of one service.
    #[must_use]
    pub fn server(&self, vip: IpAddr, port: u16, address: IpAddr) -> Option<&ServerOrder> {
        let wanted = (vip, port, address);
        self.servers.iter().find(|order| (order.vip, order.port, order.address) == wanted)
    }

    /// The server as an added reader.
    #[must_use]
    pub fn reader(&self, address: IpAddr) -> Option<&ReaderOrder> {
        self.readers.iter().find(|reader| reader.address == address)
    }

    fn server_mut(&mut self, vip: IpAddr, port: u16, address: IpAddr) -> &mut ServerOrder {
        let wanted = (vip, port, address);
        let found = self.servers.iter().position(|o| (o.vip, o.port, o.address) == wanted);
        let index = found.unwrap_or_else(|| {
            self.servers.push(ServerOrder { vip, port, address, weight: None, drained: None });
            self.servers.len() - 1
        });
        &mut self.servers[index]
    }
}

/// The orders in force, and how to read moments in them.
#[derive(Debug)]
pub(super) struct InForce {
    orders: Orders,
    /// When they came, by both clocks: the machine's, and milliseconds since the Unix epoch.
    came: (Moment, u64),
}

impl InForce {
    /// What they say of one server of one service.
    pub(super) fn of(&self, path: Path) -> OrderedHere {
        let Some(order) = self.orders.server(path.vip, path.port, path.address) else {
            return OrderedHere::default();
        };
        let (now, wall) = self.came;
        let left = order.drained.as_ref().and_then(|drained| drained.left(wall));
        OrderedHere {
            steering: Steering {
                drained: order.drained.is_some(),
                weight: order.weight.as_ref().map(|weight| weight.value),
            },
            weight_set: order.weight.as_ref().map(Ordered::stamp),
            drained: order.drained.as_ref().map(Ordered::stamp),
            reset_at: left.map(|left| now + left),
        }
    }

    /// The server as an added reader.
    pub(super) fn reader(&self, address: IpAddr) -> Option<&ReaderOrder> {
        self.orders.reader(address)
    }

    /// The addresses of the added readers.
    pub(super) fn readers(&self) -> impl Iterator<Item = IpAddr> {
        self.orders.readers.iter().map(|reader| reader.address)
    }
}

impl Balancer {
    /// What operators have set, as far as it is known: by the store's word, else by what a former
    /// controller left in the data plane, which keeps neither who nor when.
    #[must_use]
    pub fn orders(&self) -> Orders {
        match &self.orders {
            Some(standing) => standing.orders.clone(),
            None => self.inherited_orders(),
        }
    }

    fn inherited_orders(&self) -> Orders {
        let mut orders = Orders::default();
        let Stamp { by, at } = Stamp::unknown();
        for pool in &self.pools {
            let (vip, port) = (pool.service.vip, pool.service.port);
            for member in pool.members.values() {
                let (address, steering) = (member.address, member.ordered.steering);
                let weight = steering.weight;
                orders.change(&OrderChange::Weight { vip, port, address, weight }, &by, at);
                if steering.drained {
                    let drain = OrderChange::Drain { vip, port, address, reset_at: None };
                    orders.change(&drain, &by, at);
                }
            }
        }
        orders
    }

    /// Takes in what operators have set: all of it, so that what is not there is not set.
    pub(super) fn ordered(&mut self, orders: Orders, wall: u64) {
        let readers: Vec<_> = orders.readers.iter().map(|reader| reader.address).collect();
        // Told again, they are counted down by the machine's clock, which does not jump.
        let before = self.orders.take().filter(|before| before.orders == orders);
        let came = before.map_or((self.now, wall), |before| before.came);
        self.orders = Some(InForce { orders, came });
        for index in 0..self.pools.len() {
            readers.iter().for_each(|address| self.join(index, *address, false));
            let members: Vec<_> = self.pools[index].members.keys().copied().collect();
            members.into_iter().for_each(|address| self.describe(index, address));
        }
    }

    /// What a server is called: its name in the node table, else the one it was added as a reader with.
    #[must_use]
    pub fn name_of(&self, address: IpAddr) -> Option<&NodeName> {
        let reader = || self.orders.as_ref()?.reader(address)?.name.as_ref();
        self.config.node_at(address).map(|node| &node.name).or_else(reader)
    }

    /// The server that is called so, in the node table or among the added readers.
    #[must_use]
    pub fn address_named(&self, name: &str) -> Option<IpAddr> {
        let node = self.config.nodes.iter().find(|node| node.name.as_str() == name);
        let readers = self.orders.iter().flat_map(|standing| &standing.orders.readers);
        let mut readers = readers
            .filter(|reader| reader.name.as_ref().is_some_and(|known| known.as_str() == name));
        node.map(|node| node.address).or_else(|| Some(readers.next()?.address))
    }
}

impl OrderedHere {
    /// What a former controller left in the data plane.
    pub(super) fn inherited(steering: Steering) -> Self {
        Self {
            steering,
            weight_set: steering.weight.map(|_| Stamp::unknown()),
            drained: steering.drained.then(Stamp::unknown),
            reset_at: None,
        }
    }
}

impl Ordered<Drain> {
    /// For how long from now on, by the clock on the wall, the sessions are left alone. A clock that is
    /// behind the order itself is wrong: then it is as long as it was when the order was given.
    fn left(&self, wall: u64) -> Option<Duration> {
        let given = self.at.saturating_mul(1_000);
        let left = self.value.reset_at?.saturating_sub(wall.max(given));
        Some(Duration::from_millis(left))
    }
}

impl<T> Ordered<T> {
    /// By whom and when.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { by: self.by.clone(), at: self.at }
    }
}

impl ReaderOrder {
    /// By whom and when.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { by: self.by.clone(), at: self.at }
    }
}

#[cfg(test)]
mod tests;
