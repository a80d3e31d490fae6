//! Making the maps equal to a plan: only what differs is written, and in an order in which no frame
//! meets a table that names a server not yet, or no longer, there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{MapError, PerCpuValues};
use aya::util::nr_cpus;
use ipnet::IpNet;
use pgha_common::flow::RealRef;
use pgha_common::limit::Limit;
use pgha_common::maps::{
    ACTIVE_FOR_GOOD, AllowedKey, Director, PeerKey, RealServer, SCHEMA, Service, ServiceKey,
    Traffic, director_flag, name, real_flag, service_flag, state,
};
use pgha_machine::balancer::{Plan, RealPlan, ServicePlan};
use pgha_machine::table::Entry;
use pgha_machine::{EffectiveWeight, Mac, Weight};

use super::inherit::mapped;
use super::maps::Raw;
use super::tables::same;
use super::{DataPlane, XdpError};

/// Bits of an IPv4-mapped address before the IPv4 address (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u32 = 96;
/// Bits of an [`AllowedKey`] before the address.
const SERVICE_BITS: u32 = 32;

/// What the data plane is to know of its node and the other directors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorPlan {
    /// MAC addresses of the interfaces, by number.
    pub macs: Vec<Mac>,
    /// Whether ARP requests and neighbour solicitations for the VIPs are answered.
    pub active: Active,
    /// Whether frames with one VLAN tag are balanced.
    pub forward_tagged: bool,
    /// The other directors: each of their MAC addresses with each of their addresses.
    pub peers: BTreeSet<(Mac, IpAddr)>,
}

/// Whether a director is the active one, and for how long the data plane may take it for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    /// It stands by.
    No,
    /// Until that moment of `CLOCK_BOOTTIME`, in nanoseconds, whatever becomes of the controller.
    Until(u64),
    /// Until the next plan says otherwise.
    ForGood,
}

impl Active {
    /// As it lies in the map.
    const fn deadline(self) -> u64 {
        match self {
            Self::No => 0,
            Self::Until(moment) => moment,
            Self::ForGood => ACTIVE_FOR_GOOD,
        }
    }
}

impl DataPlane {
    /// Makes the maps equal to the plan.
    ///
    /// Services that end go first, because another may have their banks now. New servers are written
    /// before the tables that name them, the tables before the deaths of
    /// servers they no longer name, and those before the ids that nobody has any more.
    ///
    /// # Errors
    /// What the kernel says; what was written until then is consistent, and the next call goes on.
    pub fn apply(&mut self, director: &DirectorPlan, plan: &Plan) -> Result<(), XdpError> {
        let vips: BTreeSet<[u8; 16]> = plan.services.iter().map(|s| mapped(s.vip)).collect();
        let known = vips.intersection(&self.seen.vips).copied().collect();
        self.apply_director(director, &known)?;
        self.remove_services(plan)?;
        let allowed = self.allow(plan)?;
        for service in &plan.services {
            for real in service.reals.iter().filter(|real| !real.dead) {
                self.write_real(service.index, real)?;
            }
            self.apply_service(service)?;
            for real in service.reals.iter().filter(|real| real.dead) {
                self.write_real(service.index, real)?;
            }
        }
        self.allow_no_others(&allowed)?;
        // A new VIP is answered for only when its service is there.
        self.apply_director(director, &vips)?;
        self.remove_reals(plan)
    }

    /// The real servers that ended since this was asked last, dead or replaced: whoever only waits for
    /// one of them does not know yet.
    pub fn take_ended(&mut self) -> BTreeSet<(u16, u16)> {
        std::mem::take(&mut self.ended)
    }

    fn apply_director(
        &mut self,
        wanted: &DirectorPlan,
        vips: &BTreeSet<[u8; 16]>,
    ) -> Result<(), XdpError> {
        let peers: BTreeSet<PeerKey> = wanted
            .peers
            .iter()
            .flat_map(|(mac, address)| {
                let mac = mac.bytes();
                [PeerKey::director(mac), PeerKey::address(mac, mapped(*address))]
            })
            .collect();
        for vip in vips.difference(&self.seen.vips) {
            self.maps.vips.insert(vip, 1, 0).map_err(XdpError::map(name::VIPS))?;
        }
        // An address first: a MAC address alone would have its own frames taken for balanced ones.
        let new: Vec<_> = peers.difference(&self.seen.peers).collect();
        for peer in new.into_iter().rev() {
            self.maps.peers.insert(Raw(*peer), 1, 0).map_err(XdpError::map(name::PEERS))?;
        }
        for (number, mac) in (0..).zip(&wanted.macs) {
            self.write_director(number, director(wanted, *mac, vips, &peers))?;
        }
        for vip in self.seen.vips.difference(vips) {
            gone(self.maps.vips.remove(vip)).map_err(XdpError::map(name::VIPS))?;
        }
        for peer in self.seen.peers.difference(&peers) {
            gone(self.maps.peers.remove(&Raw(*peer))).map_err(XdpError::map(name::PEERS))?;
        }
        self.seen.vips.clone_from(vips);
        self.seen.peers = peers;
        Ok(())
    }

    fn write_director(&mut self, interface: u32, director: Director) -> Result<(), XdpError> {
        let Some(seen) = self.seen.directors.get_mut(interface as usize) else { return Ok(()) };
        if *seen != director {
            let written = self.maps.director.set(interface, Raw(director), 0);
            written.map_err(XdpError::map(name::DIRECTOR))?;
            *seen = director;
        }
        Ok(())
    }

    /// Writes the bank that is not in use, then switches the service to it in one map update.
    fn apply_service(&mut self, plan: &ServicePlan) -> Result<(), XdpError> {
        let key = service_key(plan);
        let tables = self.built.tables(plan.index, entries(plan));
        let current = self.seen.services.get(&key).copied();
        let unchanged = self.seen.tables.get(&plan.index).is_some_and(|seen| same(seen, &tables));
        let bank = match current {
            Some(service) if unchanged => service.bank,
            Some(service) => service.bank ^ 1,
            None => u32::from(plan.index) * 2,
        };
        if current.is_none() || !unchanged {
            self.maps.tables.set(bank, tables.as_ref(), 0).map_err(XdpError::map(name::TABLES))?;
        }
        let service = service(plan, bank);
        if current != Some(service) {
            self.maps
                .services
                .insert(Raw(key), Raw(service), 0)
                .map_err(XdpError::map(name::SERVICES))?;
            self.seen.services.insert(key, service);
        }
        self.seen.tables.insert(plan.index, tables);
        Ok(())
    }

    /// Admits the networks of all services, and returns them.
    fn allow(&mut self, plan: &Plan) -> Result<BTreeSet<(u32, AllowedKey)>, XdpError> {
        let wanted: BTreeSet<_> = plan
            .services
            .iter()
            .flat_map(|service| {
                service.allowed_clients.iter().map(|network| allowed(service.index, network))
            })
            .collect();
        for (bits, key) in wanted.difference(&self.seen.allowed) {
            let key = Key::new(*bits, Raw(*key));
            self.maps.allowed.insert(&key, 1, 0).map_err(XdpError::map(name::ALLOWED))?;
        }
        Ok(wanted)
    }

    fn allow_no_others(&mut self, wanted: &BTreeSet<(u32, AllowedKey)>) -> Result<(), XdpError> {
        for (bits, key) in self.seen.allowed.difference(wanted) {
            let key = Key::new(*bits, Raw(*key));
            gone(self.maps.allowed.remove(&key)).map_err(XdpError::map(name::ALLOWED))?;
        }
        self.seen.allowed.clone_from(wanted);
        Ok(())
    }

    fn write_real(&mut self, service: u16, plan: &RealPlan) -> Result<(), XdpError> {
        let id = plan.real.id;
        let wanted = real_server(service, plan);
        let seen = self.seen.reals.get(&id);
        if seen == Some(&wanted) {
            return Ok(());
        }
        if seen.is_some_and(|seen| seen.generation != wanted.generation) {
            self.clear_counts(id)?;
        }
        self.set_real(id, wanted)
    }

    fn set_real(&mut self, id: u16, real: RealServer) -> Result<(), XdpError> {
        self.maps.reals.set(u32::from(id), Raw(real), 0).map_err(XdpError::map(name::REALS))?;
        let before = self.seen.reals.insert(id, real);
        if let Some(before) = before.filter(|before| before.state == state::ALIVE)
            && (real.state, real.generation) != (before.state, before.generation)
        {
            self.ended.insert((id, before.generation));
        }
        Ok(())
    }

    /// A new user of an id begins with counts of its own.
    fn clear_counts(&mut self, id: u16) -> Result<(), XdpError> {
        let cpus = nr_cpus().map(|cpus| vec![Raw(Traffic::default()); cpus]).unwrap_or_default();
        if let Ok(zero) = PerCpuValues::try_from(cpus) {
            self.maps.traffic.set(u32::from(id), zero, 0).map_err(XdpError::map(name::TRAFFIC))?;
        }
        self.maps.open.set(u32::from(id), 0, 0).map_err(XdpError::map(name::OPEN))
    }

    fn remove_services(&mut self, plan: &Plan) -> Result<(), XdpError> {
        let wanted: BTreeSet<_> = plan.services.iter().map(service_key).collect();
        let surplus: Vec<_> =
            self.seen.services.keys().filter(|key| !wanted.contains(key)).copied().collect();
        for key in surplus {
            gone(self.maps.services.remove(&Raw(key))).map_err(XdpError::map(name::SERVICES))?;
            self.seen.services.remove(&key);
        }
        let indices: BTreeSet<_> = plan.services.iter().map(|service| service.index).collect();
        self.seen.tables.retain(|index, _| indices.contains(index));
        self.built.retain(&indices);
        Ok(())
    }

    /// Ids that nobody has keep their generation, for whoever has them next.
    fn remove_reals(&mut self, plan: &Plan) -> Result<(), XdpError> {
        let wanted: BTreeSet<_> = plan
            .services
            .iter()
            .flat_map(|service| service.reals.iter().map(|real| real.real.id))
            .collect();
        let surplus: Vec<_> = self
            .seen
            .reals
            .iter()
            .filter(|(id, real)| !wanted.contains(id) && real.state != state::ABSENT)
            .map(|(id, real)| {
                (*id, RealServer { state: state::ABSENT, flags: 0, share: 0, ..*real })
            })
            .collect();
        surplus.into_iter().try_for_each(|(id, real)| self.set_real(id, real))
    }
}

/// A bit where it is wanted.
const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn director(
    wanted: &DirectorPlan,
    mac: Mac,
    vips: &BTreeSet<[u8; 16]>,
    peers: &BTreeSet<PeerKey>,
) -> Director {
    let mut director = Director {
        schema: SCHEMA,
        mac: mac.bytes(),
        active_until: wanted.active.deadline(),
        flags: flag(wanted.forward_tagged, director_flag::FORWARDS_TAGGED),
        ..Director::default()
    };
    vips.iter().for_each(|vip| director.admit_vip(*vip));
    peers.iter().for_each(|peer| director.admit_peer(peer.mac));
    director
}

fn service_key(plan: &ServicePlan) -> ServiceKey {
    ServiceKey::new(mapped(plan.vip), plan.port.to_be_bytes())
}

fn service(plan: &ServicePlan, bank: u32) -> Service {
    let limit = plan.syn_limit.map(|limit| Limit::new(limit.rate.get(), limit.burst.get()));
    Service {
        index: plan.index,
        scheduler: plan.scheduler as u8,
        flags: flag(!plan.allowed_clients.is_empty(), service_flag::RESTRICTED)
            | flag(limit.is_some(), service_flag::SYN_LIMITED),
        bank,
        syn_interval: limit.map_or(0, |limit| limit.interval),
        syn_tolerance: limit.map_or(0, |limit| limit.tolerance),
    }
}

fn allowed(service: u16, network: &IpNet) -> (u32, AllowedKey) {
    let bits = SERVICE_BITS
        + u32::from(network.prefix_len())
        + if network.addr().is_ipv4() { MAPPED_BITS } else { 0 };
    (bits, AllowedKey::new(service, mapped(network.network())))
}

fn real_server(service: u16, plan: &RealPlan) -> RealServer {
    let RealRef { generation, .. } = plan.real;
    RealServer {
        address: mapped(plan.address),
        mac: plan.neighbour.map(|neighbour| neighbour.mac.bytes()).unwrap_or_default(),
        generation,
        state: if plan.dead { state::DEAD } else { state::ALIVE },
        flags: flag(plan.local, real_flag::LOCAL)
            | flag(plan.steering.drained, real_flag::DRAINED)
            | flag(plan.steering.weight.is_some(), real_flag::WEIGHT_SET),
        service: u8::try_from(service).unwrap_or(u8::MAX),
        interface: plan.neighbour.map(|neighbour| neighbour.interface).unwrap_or_default(),
        weight: plan.steering.weight.map(Weight::get).unwrap_or_default(),
        share: share(plan.weight),
    }
}

/// Parts of a weight of 1 that a share in the maps can tell apart: as many as 1,000 times that fit.
const SHARE_UNIT: u32 = 64;

/// The weight as the data plane compares it.
fn share(weight: EffectiveWeight) -> u16 {
    let unit = EffectiveWeight::ONE.thousandths();
    let share = (weight.thousandths() * SHARE_UNIT).div_ceil(unit);
    u16::try_from(share).unwrap_or(u16::MAX)
}

fn entries(plan: &ServicePlan) -> Vec<Entry> {
    let entry =
        |real: &RealPlan| Entry { id: real.real.id, address: real.address, weight: real.weight };
    plan.reals.iter().map(entry).collect()
}

/// That an entry is not there is what a removal wants.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::ENOENT) =>
        {
            Ok(())
        }
        removed => removed,
    }
}
