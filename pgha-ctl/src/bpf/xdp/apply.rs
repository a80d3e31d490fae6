//! Making the maps equal to a plan: only what differs is written, and in an order in which no frame
//! meets a table that names a server not yet, or no longer, there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use aya::maps::{MapError, PerCpuValues};
use aya::util::nr_cpus;
use pgha_common::maps::{
    Director, RealServer, SCHEMA, Service, ServiceKey, Tables, Traffic, name, real_flag, state,
};
use pgha_common::table::RING_SLOTS;
use pgha_machine::balancer::{Plan, RealPlan, ServicePlan};
use pgha_machine::table::{self, Entry};
use pgha_machine::{Mac, Weight};
use zerocopy::FromZeros;

use super::maps::Raw;
use super::{DataPlane, XdpError};

/// What the data plane is to know of its node and the other directors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorPlan {
    /// MAC address of the interface.
    pub mac: Mac,
    /// Whether ARP for the VIPs is answered.
    pub active: bool,
    /// The other directors whose MAC address is known, by that.
    pub peers: BTreeMap<Mac, Ipv4Addr>,
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
        let vips: BTreeSet<[u8; 4]> = plan.services.iter().map(|s| s.vip.octets()).collect();
        let known = vips.iter().copied().filter(|vip| self.seen.vips.contains(vip)).collect();
        self.apply_director(director, &known)?;
        self.remove_services(plan)?;
        for service in &plan.services {
            for real in service.reals.iter().filter(|real| !real.dead) {
                self.write_real(service.index, real)?;
            }
            self.apply_service(service)?;
            for real in service.reals.iter().filter(|real| real.dead) {
                self.write_real(service.index, real)?;
            }
        }
        // A new VIP is answered for only when its service is there.
        self.apply_director(director, &vips)?;
        self.remove_reals(plan)
    }

    fn apply_director(
        &mut self,
        wanted: &DirectorPlan,
        vips: &BTreeSet<[u8; 4]>,
    ) -> Result<(), XdpError> {
        let peers: BTreeMap<[u8; 6], [u8; 4]> =
            wanted.peers.iter().map(|(mac, address)| (mac.bytes(), address.octets())).collect();
        for vip in vips.iter().filter(|vip| !self.seen.vips.contains(vip)) {
            self.maps.vips.insert(vip, 1, 0).map_err(XdpError::map(name::VIPS))?;
        }
        for (mac, address) in &peers {
            if self.seen.peers.get(mac) != Some(address) {
                self.maps.peers.insert(mac, address, 0).map_err(XdpError::map(name::PEERS))?;
            }
        }
        let mut director = Director {
            schema: SCHEMA,
            mac: wanted.mac.bytes(),
            active: u8::from(wanted.active),
            has_peers: u8::from(!peers.is_empty()),
            ..Director::default()
        };
        vips.iter().for_each(|vip| director.admit_vip(*vip));
        if director != self.seen.director {
            self.maps.director.set(0, Raw(director), 0).map_err(XdpError::map(name::DIRECTOR))?;
            self.seen.director = director;
        }
        for vip in self.seen.vips.iter().filter(|vip| !vips.contains(*vip)) {
            gone(self.maps.vips.remove(vip)).map_err(XdpError::map(name::VIPS))?;
        }
        for mac in self.seen.peers.keys().filter(|mac| !peers.contains_key(*mac)) {
            gone(self.maps.peers.remove(mac)).map_err(XdpError::map(name::PEERS))?;
        }
        self.seen.vips = vips.iter().copied().collect();
        self.seen.peers = peers;
        Ok(())
    }

    /// Writes the bank that is not in use, then switches the service to it in one map update.
    fn apply_service(&mut self, plan: &ServicePlan) -> Result<(), XdpError> {
        let id = (plan.vip.octets(), plan.port.to_be_bytes());
        let entries = entries(plan);
        let tables = match self.built.remove(&plan.index) {
            Some((built_for, tables)) if built_for == entries => tables,
            _ => tables(&entries).into(),
        };
        let current = self.seen.services.get(&id).copied();
        let unchanged = self.seen.tables.get(&plan.index).is_some_and(|seen| same(seen, &tables));
        let bank = match current {
            Some(service) if unchanged => service.bank,
            Some(service) => service.bank ^ 1,
            None => u32::from(plan.index) * 2,
        };
        if current.is_none() || !unchanged {
            self.maps.tables.set(bank, tables.as_ref(), 0).map_err(XdpError::map(name::TABLES))?;
        }
        let service = Service { index: plan.index, scheduler: plan.scheduler as u16, bank };
        if current != Some(service) {
            let key = Raw(ServiceKey::new(id.0, id.1));
            self.maps
                .services
                .insert(key, Raw(service), 0)
                .map_err(XdpError::map(name::SERVICES))?;
            self.seen.services.insert(id, service);
        }
        self.seen.tables.insert(plan.index, tables.clone());
        self.built.insert(plan.index, (entries, tables));
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
            self.clear_traffic(id)?;
        }
        self.set_real(id, wanted)
    }

    fn set_real(&mut self, id: u16, real: RealServer) -> Result<(), XdpError> {
        self.maps.reals.set(u32::from(id), Raw(real), 0).map_err(XdpError::map(name::REALS))?;
        self.seen.reals.insert(id, real);
        Ok(())
    }

    /// A new user of an id begins with traffic of its own.
    fn clear_traffic(&mut self, id: u16) -> Result<(), XdpError> {
        let cpus = nr_cpus().map(|cpus| vec![Raw(Traffic::default()); cpus]).unwrap_or_default();
        if let Ok(zero) = PerCpuValues::try_from(cpus) {
            self.maps.traffic.set(u32::from(id), zero, 0).map_err(XdpError::map(name::TRAFFIC))?;
        }
        Ok(())
    }

    fn remove_services(&mut self, plan: &Plan) -> Result<(), XdpError> {
        let wanted: BTreeSet<_> = plan
            .services
            .iter()
            .map(|service| (service.vip.octets(), service.port.to_be_bytes()))
            .collect();
        let surplus: Vec<_> =
            self.seen.services.keys().filter(|id| !wanted.contains(*id)).copied().collect();
        for id in surplus {
            let key = Raw(ServiceKey::new(id.0, id.1));
            gone(self.maps.services.remove(&key)).map_err(XdpError::map(name::SERVICES))?;
            self.seen.services.remove(&id);
        }
        let indices: BTreeSet<_> = plan.services.iter().map(|service| service.index).collect();
        self.seen.tables.retain(|index, _| indices.contains(index));
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
            .map(|(id, real)| (*id, RealServer { state: state::ABSENT, flags: 0, ..*real }))
            .collect();
        surplus.into_iter().try_for_each(|(id, real)| self.set_real(id, real))
    }
}

fn real_server(service: u16, plan: &RealPlan) -> RealServer {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    RealServer {
        address: plan.address.to_ipv6_mapped().octets(),
        mac: plan.mac.map(Mac::bytes).unwrap_or_default(),
        generation: plan.real.generation,
        state: if plan.dead { state::DEAD } else { state::ALIVE },
        flags: flag(plan.local, real_flag::LOCAL)
            | flag(plan.steering.drained, real_flag::DRAINED)
            | flag(plan.steering.weight.is_some(), real_flag::WEIGHT_SET),
        service,
        weight: plan.steering.weight.map(Weight::get).unwrap_or_default(),
        reserved: [0; 2],
    }
}

fn entries(plan: &ServicePlan) -> Vec<Entry> {
    let entry =
        |real: &RealPlan| Entry { id: real.real.id, address: real.address, weight: real.weight };
    plan.reals.iter().map(entry).collect()
}

fn tables(entries: &[Entry]) -> Box<Raw<Tables>> {
    let mut boxed = Box::new(Raw(Tables::new_zeroed()));
    let Raw(tables) = &mut *boxed;
    tables.maglev.copy_from_slice(&table::maglev(entries));
    let ring = table::ring(entries);
    let length = ring.len().min(RING_SLOTS);
    tables.ring[..length].copy_from_slice(&ring[..length]);
    tables.ring_length = u16::try_from(length).unwrap_or(u16::MAX);
    boxed
}

fn same(Raw(a): &Raw<Tables>, Raw(b): &Raw<Tables>) -> bool {
    a.ring_length == b.ring_length && a.ring == b.ring && a.maglev == b.maglev
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
        other => other,
    }
}
