//! What operators set, by whom and when: plain data that the store keeps.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::member::{Member, OrderedHere, Steering};
use super::reasons::Stamp;
use super::{Balancer, Pool};
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

impl Balancer {
    /// What operators have set, as far as it is known: by the store's word, else by what a former
    /// controller left in the data plane, which keeps neither who nor when.
    #[must_use]
    pub fn orders(&self) -> Orders {
        if let Some(orders) = &self.orders {
            return orders.clone();
        }
        let unknown = Stamp::unknown();
        let of = |pool: &Pool, member: &Member| {
            let Steering { drained, weight } = member.ordered.steering;
            let Stamp { by, at } = &unknown;
            ServerOrder {
                vip: pool.service.vip,
                port: pool.service.port,
                address: member.address,
                weight: weight.map(|value| Ordered { value, by: by.clone(), at: *at }),
                drained: drained.then(|| Ordered {
                    value: Drain::default(),
                    by: by.clone(),
                    at: *at,
                }),
            }
        };
        let all = self
            .pools
            .iter()
            .flat_map(|pool| pool.members.values().map(move |member| of(pool, member)));
        let servers = all.filter(|order| order.weight.is_some() || order.drained.is_some());
        Orders { servers: servers.collect(), readers: Vec::new() }
    }

    /// Takes in what operators have set: all of it, so that what is not there is not set.
    pub(super) fn ordered(&mut self, orders: Orders, wall: u64) {
        let now = self.now;
        for pool in &mut self.pools {
            let (vip, port) = (pool.service.vip, pool.service.port);
            for member in pool.members.values_mut() {
                let order = orders.server(vip, port, member.address);
                member.ordered = OrderedHere::of(order, now, wall);
            }
        }
        self.orders = Some(orders);
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

    /// An order; `wall` is what the clock on the wall says now, in milliseconds since the Unix epoch.
    pub(super) fn of(order: Option<&ServerOrder>, now: Moment, wall: u64) -> Self {
        let Some(order) = order else { return Self::default() };
        let reset_at = order.drained.as_ref().and_then(|drained| drained.value.reset_at);
        Self {
            steering: Steering {
                drained: order.drained.is_some(),
                weight: order.weight.as_ref().map(|weight| weight.value),
            },
            weight_set: order.weight.as_ref().map(Ordered::stamp),
            drained: order.drained.as_ref().map(Ordered::stamp),
            reset_at: reset_at.map(|at| now + Duration::from_millis(at.saturating_sub(wall))),
        }
    }
}

impl<T> Ordered<T> {
    /// By whom and when.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { by: self.by.clone(), at: self.at }
    }
}
