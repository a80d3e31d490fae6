//! What the data plane is to look like: plain data, compared by value with what is there.

use std::net::IpAddr;

use ipnet::IpNet;
use pgha_common::flow::RealRef;

use super::config::{Scheduler, SynLimit};
use super::member::Steering;
use crate::{EffectiveWeight, Neighbour};

#[cfg(test)]
mod tests;

/// The whole data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each virtual service.
    pub services: Vec<ServicePlan>,
}

/// One virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its number on this director.
    pub index: u16,
    /// Its address.
    pub vip: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// How it picks.
    pub scheduler: Scheduler,
    /// From where clients may connect; empty says from everywhere.
    pub allowed_clients: Vec<IpNet>,
    /// How many new connections one source may open; `None` says any number.
    pub syn_limit: Option<SynLimit>,
    /// Its real servers, also those that get no new connections.
    pub reals: Vec<RealPlan>,
}

impl ServicePlan {
    /// Whether all that differs from `before` is that servers get more, new ones or those there were, where
    /// somebody served already: then nothing is lost by waiting for a moment.
    pub(super) fn only_adds_to(&self, before: &Self) -> bool {
        let as_before = Self { reals: before.reals.clone(), ..self.clone() };
        let serves = |real: &RealPlan| real.weight > EffectiveWeight::ZERO;
        let kept = |had: &RealPlan| {
            let has = self.reals.iter().find(|real| real.real == had.real);
            has.is_some_and(|has| has.keeps_all_of(had))
        };
        as_before == *before && before.reals.iter().any(serves) && before.reals.iter().all(kept)
    }
}

/// One real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealPlan {
    /// Its id and generation.
    pub real: RealRef,
    /// Its address.
    pub address: IpAddr,
    /// Where it is reached; `None` only where `local` makes it needless.
    pub neighbour: Option<Neighbour>,
    /// It is this very node.
    pub local: bool,
    /// Its flows are answered by RST: its sessions are gone, or an operator wants them gone.
    pub dead: bool,
    /// Its share of new connections; 0 for a dead one.
    pub weight: EffectiveWeight,
    /// What an operator set, for the next controller.
    pub steering: Steering,
}

impl RealPlan {
    fn keeps_all_of(&self, before: &Self) -> bool {
        let as_before = Self { weight: before.weight, dead: before.dead, ..*self };
        as_before == *before && self.weight >= before.weight && (before.dead || !self.dead)
    }
}

/// What a former controller left in the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Its services: number, VIP, port.
    pub services: Vec<(u16, IpAddr, u16)>,
    /// Its real servers.
    pub reals: Vec<InheritedReal>,
    /// Every id that was ever used, with the generation of its last user.
    pub ids: Vec<RealRef>,
}

/// A real server that a former controller left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedReal {
    /// Number of its service.
    pub service: u16,
    /// Its id and generation.
    pub real: RealRef,
    /// Its address.
    pub address: IpAddr,
    /// Where it was reached last.
    pub neighbour: Option<Neighbour>,
    /// Its flows are answered by RST.
    pub dead: bool,
    /// Whether the tables name it.
    pub in_service: bool,
    /// What an operator set.
    pub steering: Steering,
}
