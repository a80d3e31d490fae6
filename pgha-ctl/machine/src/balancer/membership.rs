//! Who is a member of a service: who joins, stays, is taken over from a former controller, leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pgha_common::flow::RealRef;

use super::config::{Config, Discovery, Service};
use super::event::{Effect, News, Target};
use super::member::{Down, Health, Member, OrderedHere};
use super::plan::InheritedReal;
use super::{Balancer, Pool, key};

impl Balancer {
    /// Takes a configuration; the members it still has stay as they are.
    pub(super) fn configure(&mut self, config: Config) {
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
        }
        self.pools[index].service = service;
        if lists {
            for address in nodes {
                self.join(index, address, true);
            }
        }
        if let Some(answer) = self.primary.clone().filter(|_| !self.primary_lost) {
            self.welcome(&answer);
        }
    }

    /// Makes a server a member, unless it is one.
    pub(super) fn join(&mut self, index: usize, address: IpAddr, listed: bool) {
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
            missed: 0,
            health: Health::Unproven(0),
            finding: None,
            heard: self.answers,
            silences: 0,
            neighbour: self.neighbours.get(&address).copied(),
            configured_weight: self.config.weight(&self.pools[index].service, address),
            ordered: OrderedHere::default(),
        };
        self.enter(index, member);
        self.tell(News::Joined(target));
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
        let member = Member {
            address: left.address,
            real: left.real,
            listed: false,
            local: self.config.local.contains(&left.address),
            streaming: None,
            missed: 0,
            health,
            finding: None,
            heard: self.answers,
            silences: 0,
            neighbour: left.neighbour,
            configured_weight: self.config.weight(&self.pools[index].service, left.address),
            ordered: OrderedHere::inherited(left.steering),
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

    /// Ends the membership of servers that nothing makes members any more.
    pub(super) fn forget_those_over(&mut self) {
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
}
