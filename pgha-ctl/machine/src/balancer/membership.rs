//! Who is a member of a service: who joins, stays, is taken over from a former controller, leaves.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pgha_common::flow::RealRef;

use super::config::{Config, Discovery, Service};
use super::event::{Effect, News, Target};
use super::judge::Serving;
use super::member::{Down, Health, Member, OrderedHere};
use super::orders::InForce;
use super::plan::InheritedReal;
use super::probe::{Passage, Path, Probe};
use super::{Balancer, Pool, key};

impl Balancer {
    /// Takes a configuration; the members it still has stay as they are.
    pub(super) fn configure(&mut self, config: Config) {
        let wanted: Vec<_> = config.services.iter().map(key).collect();
        let mut closed = Vec::new();
        for pool in &self.pools {
            if !wanted.contains(&key(&pool.service)) {
                let left = pool.members.values();
                closed.extend(left.map(|m| (pool.path(m.address), m.real, m.probed.is_some())));
            }
        }
        let before = self.pools.len();
        self.pools.retain(|pool| wanted.contains(&key(&pool.service)));
        self.left |= self.pools.len() < before;
        self.let_go(closed);
        self.config = config;
        self.place_cluster();
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
        self.pools.push(Pool::new(index, service));
        self.pools.len() - 1
    }

    /// Brings a pool up to its (possibly new) configuration.
    fn refresh(&mut self, index: usize, service: Service) {
        let nodes: Vec<_> = self.config.listed(service.discovery).collect();
        // Those that have clients keep them until their first probe says otherwise.
        let begins_to_probe =
            self.pools[index].service.probe == Probe::Off && service.probe != Probe::Off;
        for member in self.pools[index].members.values_mut() {
            member.listed = nodes.contains(&member.address);
            if begins_to_probe && member.verdict.serving != Serving::No {
                member.passage = Passage::proven();
            }
            if let Some(lag) = member.lag {
                member.lagging = service.lag.lagging(lag, member.lagging);
            }
        }
        self.pools[index].service = service;
        for address in self.pools[index].members.keys().copied().collect::<Vec<_>>() {
            self.describe(index, address);
        }
        self.join_wanted(index);
    }

    /// Makes members of all that are known to be wanted.
    fn join_wanted(&mut self, index: usize) {
        let discovery = self.pools[index].service.discovery;
        for address in self.config.listed(discovery).collect::<Vec<_>>() {
            self.join(index, address, true);
        }
        if discovery == Discovery::Writer {
            return;
        }
        let readers = self.orders.iter().flat_map(InForce::readers).collect::<Vec<_>>();
        for address in readers {
            self.join(index, address, false);
        }
        if let Some(answer) = self.primary.clone() {
            self.welcome_primary(answer.host);
            if !self.primary_lost {
                self.welcome(&answer);
            }
        }
    }

    /// Notes what configuration and operators say of a member.
    pub(super) fn describe(&mut self, index: usize, address: IpAddr) {
        let pool = &mut self.pools[index];
        let path = pool.path(address);
        let Some(member) = pool.members.get_mut(&address) else { return };
        member.local = self.config.local.contains(&address);
        member.default_weight = pool.service.default_weight;
        if pool.service.discovery == Discovery::Writer {
            // The one server that there is has all of it, and no reader's order is for it.
            return;
        }
        member.node_weight = self.config.node_at(address).and_then(|node| node.weight);
        if let Some(standing) = &self.orders {
            member.ordered = standing.of(path);
            member.reader = standing.reader(address).cloned();
        }
    }

    /// Makes a server a member, unless it is one.
    pub(super) fn join(&mut self, index: usize, address: IpAddr, listed: bool) {
        if self.pools[index].members.contains_key(&address) {
            return;
        }
        let target = self.pools[index].target(address);
        let path = self.pools[index].path(address);
        let Some(real) = self.ids.take() else {
            if self.full.insert(path) {
                self.tell(News::Full(target));
            }
            return;
        };
        self.full.remove(&path);
        let mut member = Member::new(address, real, Health::Unproven(0));
        member.listed = listed;
        member.neighbour = self.neighbours.get(&address).copied();
        self.enter(index, member);
        self.tell(News::Joined(target));
    }

    /// The servers, by the ways to them, that would be members and have no id.
    #[must_use]
    pub fn without_id(&self) -> Vec<Path> {
        self.full.iter().filter(|path| self.is_wanted(path)).copied().collect()
    }

    /// Whether a service would still have this server as a member. Where standbys have others behind them, it may
    /// be one of those, of which no more is known.
    fn is_wanted(&self, path: &Path) -> bool {
        let pool = self.pools.iter().find(|pool| key(&pool.service) == (path.vip, path.port));
        let Some(Pool { service, members, .. }) = pool else { return false };
        let listed = self.config.listed(service.discovery).any(|at| at == path.address);
        let added = self.orders.iter().flat_map(InForce::readers).any(|at| at == path.address);
        let mut named = self.primary.iter().flat_map(|primary| &primary.walsenders);
        let streams = service.discovery.welcomes()
            && (named.any(|of| of.address == path.address) || !self.upstreams.is_empty());
        let last = service.fallback_to_primary
            && self.primary.as_ref().is_some_and(|primary| primary.host == path.address);
        !members.contains_key(&path.address) && (listed || added || streams || last)
    }

    /// Takes over a server that a former controller left.
    pub(super) fn adopt(&mut self, left: &InheritedReal) {
        let Some(index) = self.pools.iter().position(|pool| pool.index == left.service) else {
            return;
        };
        let health = if left.in_service {
            Health::Up(0)
        } else if left.dead {
            Health::Down(Down::Refused, 0)
        } else {
            // Its sessions may be alive, whatever keeps new ones from it.
            Health::Down(Down::Unproven, 0)
        };
        if let Some(neighbour) = left.neighbour {
            self.neighbours.insert(left.address, neighbour);
        }
        let mut member = Member::new(left.address, left.real, health);
        member.neighbour = left.neighbour;
        member.ordered = OrderedHere::inherited(left.steering);
        if left.in_service {
            // It has clients: neither does it begin slowly, nor is its path in doubt.
            (member.passage, member.fresh) = (Passage::proven(), false);
            (member.inherited, member.wrote) = (true, true);
        }
        self.enter(index, member);
    }

    fn enter(&mut self, index: usize, mut member: Member) {
        let address = member.address;
        let target = self.pools[index].target(address);
        member.heard = self.answers;
        member.path_heard = self.pools[index].path_answers;
        if !self.is_watched(target) {
            self.effects.push_back(Effect::Watch(target));
        }
        if !self.config.local.contains(&address) {
            self.effects.push_back(Effect::Resolve(address));
        }
        self.pools[index].members.insert(address, member);
        self.pools[index].touched = true;
        self.describe(index, address);
    }

    /// Ends the membership of servers that nothing makes members any more, in the services that were touched.
    pub(super) fn forget_those_over(&mut self) {
        let orders_known = self.orders.is_some();
        let mut gone = Vec::new();
        for pool in self.pools.iter_mut().filter(|pool| pool.touched) {
            // Who leaves may have been the last word for others.
            loop {
                let over = pool.members_over(orders_known);
                if over.is_empty() {
                    break;
                }
                for address in over {
                    let path = pool.path(address);
                    let left = pool.members.remove(&address);
                    gone.extend(left.map(|member| (path, member.real, member.probed.is_some())));
                }
            }
        }
        self.let_go(gone);
    }

    /// Has those join for whom there was no id, when ids came back.
    pub(super) fn join_again(&mut self) {
        if self.left && !self.full.is_empty() {
            (0..self.pools.len()).for_each(|index| self.join_wanted(index));
        }
    }

    /// Their ids may serve others, and nobody need check or probe them any more.
    fn let_go(&mut self, gone: Vec<(Path, RealRef, bool)>) {
        for (path, real, probed) in gone {
            let target = Target { address: path.address, port: path.port };
            self.left = true;
            self.ids.give_back(real);
            if probed {
                self.effects.push_back(Effect::Unprobe(path));
            }
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
}

impl Pool {
    fn members_over(&self, orders_known: bool) -> Vec<IpAddr> {
        let over = self.members.values().filter(|member| self.is_over(member, orders_known));
        over.map(|member| member.address).collect()
    }

    /// Whether nothing makes this server a member any more.
    pub(super) fn is_over(&self, member: &Member, orders_known: bool) -> bool {
        let upstream_gone = member.upstream.is_some_and(|up| !self.members.contains_key(&up));
        member.is_over(self.service.discovery, orders_known, upstream_gone)
    }
}
