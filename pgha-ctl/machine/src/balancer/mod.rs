//! Which real servers the virtual services have, and with which weight.
//!
//! Events come in by [`Balancer::handle`]; what is to be done comes out by [`Balancer::poll_effect`],
//! and what the data plane is to look like is [`Balancer::plan`]. The rules, in the order in which
//! they are applied:
//!
//! 1. Members are the listed nodes, whoever streams from the primary, or both ([`Discovery`]).
//! 2. A member gets its first client only after `rise` checks in which it answered as a hot standby:
//!    that is why neither `pg_receivewal` nor `pg_basebackup` ever gets one.
//! 3. A vanished walsender drains: it says nothing about the server's sessions. Only direct evidence
//!    makes a server dead ([`Down`]).
//! 4. Fail static: while the primary cannot be asked, what it said last stands.

mod config;
mod ids;
mod member;
mod plan;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use pgha_common::flow::RealRef;
use serde::{Deserialize, Serialize};

pub use config::{Config, Discovery, Node, Scheduler, Service};
pub use member::{Down, Finding, Health, Member, Replay, Steering, Streaming, Withheld};
pub use plan::{Inherited, InheritedReal, Plan, RealPlan, ServicePlan};
pub use view::{ServerView, ServiceView, Standing};

use ids::Ids;

use crate::{Lsn, Mac, Weight};

/// `sync_state` of `pg_stat_replication` (PostgreSQL documentation, "Monitoring statistics").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Asynchronous.
    Async,
    /// Asynchronous, would become synchronous when another fails.
    Potential,
    /// Synchronous.
    Sync,
    /// Candidate of a quorum.
    Quorum,
}

/// A streaming walsender of the primary, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walsender {
    /// The standby's address.
    pub address: Ipv4Addr,
    /// Its part in synchronous commit.
    pub sync_state: SyncState,
}

/// One answer of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAnswer {
    /// End of its WAL.
    pub lsn: Option<Lsn>,
    /// Its streaming walsenders; several may belong to one address.
    pub walsenders: Vec<Walsender>,
}

/// One server as one service sees it: where checks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The server.
    pub address: Ipv4Addr,
    /// The service's port.
    pub port: u16,
}

/// What happened in the world.
#[derive(Clone, Debug)]
pub enum Event {
    /// The primary answered.
    Primary(PrimaryAnswer),
    /// The primary could not be asked, or said nothing of use.
    PrimaryLost,
    /// A check ended.
    Checked(Target, Finding),
    /// The session kept open to a server ended.
    SessionEnded(Target),
    /// The kernel's neighbour table says this of an address on the interface.
    Neighbour(Ipv4Addr, Option<Mac>),
    /// The operator wrote a new configuration.
    Configured(Config),
    /// The operator steers one server of one service.
    Steered {
        /// VIP and port of the service.
        service: (Ipv4Addr, u16),
        /// The server.
        address: Ipv4Addr,
        /// What to do.
        order: Order,
    },
}

/// What an operator may order for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// This weight, or the configuration's again.
    Weight(Option<Weight>),
    /// No new connections.
    Drain,
    /// New connections again.
    Undrain,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Check this server regularly and keep a session to it open.
    Watch(Target),
    /// Stop that.
    Unwatch(Target),
    /// Check it now.
    CheckNow(Target),
    /// Learn the MAC address of this neighbour, and follow it.
    Resolve(Ipv4Addr),
    /// Make the data plane equal to [`Balancer::plan`].
    Program,
    /// Tell people.
    Tell(News),
}

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The primary can be asked, with so many streaming walsenders.
    PrimaryAnswers(usize),
    /// The primary cannot be asked; the readers stay as they are.
    PrimaryLost,
    /// A server became a member of a service.
    Joined(Target),
    /// A server is no member any more.
    Left(Target),
    /// A server gets new connections again, or for the first time.
    Up(Target),
    /// A server gets no new connections, for this reason.
    Down(Target, Down),
    /// A server's MAC address changed.
    Moved(Ipv4Addr, Mac),
    /// No id is left for a server: it gets no traffic.
    Full(Target),
}

/// One service and its members.
#[derive(Debug)]
struct Pool {
    index: u16,
    service: Service,
    members: BTreeMap<Ipv4Addr, Member>,
}

impl Pool {
    const fn target(&self, address: Ipv4Addr) -> Target {
        Target { address, port: self.service.port }
    }
}

/// The balancer's decisions.
#[derive(Debug)]
pub struct Balancer {
    config: Config,
    pools: Vec<Pool>,
    ids: Ids,
    /// The last answer of the primary; stays when it is lost.
    primary: Option<PrimaryAnswer>,
    primary_lost: bool,
    macs: BTreeMap<Ipv4Addr, Mac>,
    effects: VecDeque<Effect>,
}

impl Balancer {
    /// Begins with what a former controller left: its servers serve on until something is known.
    #[must_use]
    pub fn new(config: Config, inherited: &Inherited) -> Self {
        let ours = |service: u16| {
            inherited.services.iter().any(|(index, vip, port)| {
                *index == service
                    && config.services.iter().any(|s| (s.vip, s.port) == (*vip, *port))
            })
        };
        let ids = Ids::inherit(&inherited.ids, |real| {
            inherited.reals.iter().any(|left| left.real == real && ours(left.service))
        });
        let mut balancer = Self {
            config: config.clone(),
            pools: Vec::new(),
            ids,
            primary: None,
            primary_lost: true,
            macs: BTreeMap::new(),
            effects: VecDeque::new(),
        };
        for (index, vip, port) in &inherited.services {
            if let Some(service) = config.services.iter().find(|s| (s.vip, s.port) == (*vip, *port))
            {
                balancer.pools.push(Pool {
                    index: *index,
                    service: service.clone(),
                    members: BTreeMap::new(),
                });
            }
        }
        for left in &inherited.reals {
            balancer.adopt(left);
        }
        balancer.configure(config);
        balancer
    }

    /// Takes in what happened. What follows from it waits in [`Self::poll_effect`].
    pub fn handle(&mut self, event: Event) {
        let before = self.plan();
        match event {
            Event::Primary(answer) => self.primary_answered(answer),
            Event::PrimaryLost => self.primary_lost(),
            Event::Checked(target, finding) => self.checked(target, &finding),
            Event::SessionEnded(target) => self.effects.push_back(Effect::CheckNow(target)),
            Event::Neighbour(address, mac) => self.neighbour(address, mac),
            Event::Configured(config) => self.configure(config),
            Event::Steered { service, address, order } => self.steer(service, address, order),
        }
        self.forget_those_over();
        if self.plan() != before {
            self.effects.push_back(Effect::Program);
        }
    }

    /// The next thing to be done; `None` when nothing is left.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What the data plane is to look like now.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let services = self.pools.iter().map(|pool| ServicePlan {
            index: pool.index,
            vip: pool.service.vip,
            port: pool.service.port,
            scheduler: pool.service.scheduler,
            reals: pool
                .members
                .values()
                .filter(|member| member.mac.is_some() || member.local)
                .map(|member| RealPlan {
                    real: member.real,
                    address: member.address,
                    mac: member.mac,
                    local: member.local,
                    dead: member.health.is_dead(),
                    weight: member.effective_weight(pool.service.discovery, self.primary_answers()),
                    steering: member.steering,
                })
                .collect(),
        });
        Plan { services: services.collect() }
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the primary answered when it was last asked.
    #[must_use]
    pub const fn primary_answers(&self) -> bool {
        !self.primary_lost
    }

    /// Whether a service has this server as a member.
    #[must_use]
    pub fn has_member(&self, service: (Ipv4Addr, u16), address: Ipv4Addr) -> bool {
        self.pools
            .iter()
            .any(|pool| key(&pool.service) == service && pool.members.contains_key(&address))
    }

    fn primary_answered(&mut self, answer: PrimaryAnswer) {
        if self.primary_lost {
            self.tell(News::PrimaryAnswers(answer.walsenders.len()));
        }
        self.primary_lost = false;
        // The better of two walsenders of one server counts.
        let mut streaming = BTreeMap::new();
        for walsender in &answer.walsenders {
            let state = streaming.entry(walsender.address).or_insert(walsender.sync_state);
            *state = (*state).max(walsender.sync_state);
        }
        for index in 0..self.pools.len() {
            if self.pools[index].service.discovery != Discovery::Direct {
                for address in streaming.keys() {
                    self.join(index, *address, false);
                }
            }
            for member in self.pools[index].members.values_mut() {
                member.streaming = Some(
                    streaming.get(&member.address).map_or(Streaming::No, |s| Streaming::Yes(*s)),
                );
            }
        }
        self.primary = Some(answer);
    }

    fn primary_lost(&mut self) {
        if !self.primary_lost {
            self.tell(News::PrimaryLost);
        }
        self.primary_lost = true;
    }

    fn checked(&mut self, target: Target, finding: &Finding) {
        let others_answer = self.primary_answers() || self.another_answers(target);
        let (rise, fall) = (self.config.rise, self.config.fall);
        let mut news = Vec::new();
        for pool in self.pools.iter_mut().filter(|pool| pool.service.port == target.port) {
            let Some(member) = pool.members.get_mut(&target.address) else { continue };
            let health = member.health.after(finding, rise, fall, others_answer);
            match (&member.health, &health) {
                (Health::Up(_), Health::Up(_)) => {}
                (_, Health::Up(_)) => news.push(News::Up(target)),
                (Health::Down(before, _), Health::Down(after, _)) if before == after => {}
                (_, Health::Down(down, _)) => news.push(News::Down(target, *down)),
                (_, Health::Unproven(_)) => {}
            }
            member.health = health;
            member.finding = Some(finding.clone());
        }
        news.into_iter().for_each(|news| self.tell(news));
    }

    fn another_answers(&self, target: Target) -> bool {
        self.pools.iter().flat_map(|pool| pool.members.values()).any(|member| {
            member.address != target.address
                && !matches!(member.finding, None | Some(Finding::Silent(_)))
        })
    }

    fn neighbour(&mut self, address: Ipv4Addr, mac: Option<Mac>) {
        // An entry that the kernel gave up keeps its last address here: a server that is alive comes
        // back with the same, and one that is not is found out by its checks.
        let Some(mac) = mac else { return };
        let moved = self.macs.insert(address, mac).is_some_and(|before| before != mac);
        for pool in &mut self.pools {
            if let Some(member) = pool.members.get_mut(&address) {
                member.mac = Some(mac);
            }
        }
        if moved {
            self.tell(News::Moved(address, mac));
        }
    }

    fn configure(&mut self, config: Config) {
        let wanted: Vec<_> = config.services.iter().map(key).collect();
        let mut closed = Vec::new();
        for pool in &self.pools {
            if !wanted.contains(&key(&pool.service)) {
                closed.extend(pool.members.values().map(|m| (pool.target(m.address), m.real)));
            }
        }
        self.pools.retain(|pool| wanted.contains(&key(&pool.service)));
        self.let_go(closed);
        self.config = config;
        for service in self.config.services.clone() {
            let index = match self.pools.iter().position(|pool| key(&pool.service) == key(&service))
            {
                Some(index) => index,
                None => self.open_pool(service.clone()),
            };
            self.refresh(index, service);
        }
    }

    fn open_pool(&mut self, service: Service) -> usize {
        let taken: BTreeSet<u16> = self.pools.iter().map(|pool| pool.index).collect();
        let index = (0..).find(|index| !taken.contains(index)).unwrap_or_default();
        self.pools.push(Pool { index, service, members: BTreeMap::new() });
        self.pools.len() - 1
    }

    /// Brings a pool up to its (possibly new) configuration.
    fn refresh(&mut self, index: usize, service: Service) {
        let nodes: Vec<_> = self.config.nodes.iter().map(|node| node.address).collect();
        let lists = service.discovery != Discovery::Walsenders;
        for member in self.pools[index].members.values_mut() {
            member.listed = lists && nodes.contains(&member.address);
            member.local = self.config.local.contains(&member.address);
            member.configured_weight = self.config.weight(&service, member.address);
            if !member.listed && member.streaming.is_none() && self.primary.is_some() {
                member.streaming = Some(Streaming::No);
            }
        }
        self.pools[index].service = service;
        if lists {
            for address in nodes {
                self.join(index, address, true);
            }
        }
        if let Some(answer) = self.primary.clone().filter(|_| !self.primary_lost) {
            self.primary_answered(answer);
        }
    }

    fn join(&mut self, index: usize, address: Ipv4Addr, listed: bool) {
        if self.pools[index].members.contains_key(&address) {
            return;
        }
        let target = self.pools[index].target(address);
        let Some(real) = self.ids.take() else {
            self.tell(News::Full(target));
            return;
        };
        let member = Member {
            address,
            real,
            listed,
            local: self.config.local.contains(&address),
            streaming: None,
            health: Health::Unproven(0),
            finding: None,
            mac: self.macs.get(&address).copied(),
            configured_weight: self.config.weight(&self.pools[index].service, address),
            steering: Steering::default(),
        };
        self.enter(index, member);
        self.tell(News::Joined(target));
    }

    /// Takes over a server that a former controller left.
    fn adopt(&mut self, left: &InheritedReal) {
        let Some(index) = self.pools.iter().position(|pool| pool.index == left.service) else {
            return;
        };
        let health = if left.in_service {
            Health::Up(0)
        } else if left.dead {
            Health::Down(Down::Refused, 0)
        } else {
            Health::Unproven(0)
        };
        if let Some(mac) = left.mac {
            self.macs.insert(left.address, mac);
        }
        let member = Member {
            address: left.address,
            real: left.real,
            listed: false,
            local: self.config.local.contains(&left.address),
            streaming: None,
            health,
            finding: None,
            mac: left.mac,
            configured_weight: self.config.weight(&self.pools[index].service, left.address),
            steering: left.steering,
        };
        self.enter(index, member);
    }

    fn enter(&mut self, index: usize, member: Member) {
        let target = self.pools[index].target(member.address);
        if !self.is_watched(target) {
            self.effects.push_back(Effect::Watch(target));
        }
        if !member.local {
            self.effects.push_back(Effect::Resolve(member.address));
        }
        self.pools[index].members.insert(member.address, member);
    }

    fn steer(&mut self, service: (Ipv4Addr, u16), address: Ipv4Addr, order: Order) {
        let pool = self.pools.iter_mut().find(|pool| key(&pool.service) == service);
        if let Some(member) = pool.and_then(|pool| pool.members.get_mut(&address)) {
            match order {
                Order::Weight(weight) => member.steering.weight = weight,
                Order::Drain => member.steering.drained = true,
                Order::Undrain => member.steering.drained = false,
            }
        }
    }

    fn forget_those_over(&mut self) {
        let mut gone = Vec::new();
        for pool in &mut self.pools {
            let (port, discovery) = (pool.service.port, pool.service.discovery);
            pool.members.retain(|address, member| {
                let over = member.is_over(discovery);
                if over {
                    gone.push((Target { address: *address, port }, member.real));
                }
                !over
            });
        }
        self.let_go(gone);
    }

    /// Their ids may serve others, and nobody need check them any more.
    fn let_go(&mut self, gone: Vec<(Target, RealRef)>) {
        for (target, real) in gone {
            self.ids.give_back(real);
            if !self.is_watched(target) {
                self.effects.push_back(Effect::Unwatch(target));
            }
            self.tell(News::Left(target));
        }
    }

    fn is_watched(&self, target: Target) -> bool {
        self.pools.iter().any(|pool| {
            pool.service.port == target.port && pool.members.contains_key(&target.address)
        })
    }

    fn tell(&mut self, news: News) {
        self.effects.push_back(Effect::Tell(news));
    }
}

/// What tells services apart.
const fn key(service: &Service) -> (Ipv4Addr, u16) {
    (service.vip, service.port)
}

#[cfg(test)]
mod tests;
