//! Reading the maps: what is there now, which is also what a former controller left.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use aya::maps::MapError;
use pgha_common::flow::RealRef;
use pgha_common::maps::{Director, MAX_REALS, RealServer, Service, Tables, name, real_flag, state};
use pgha_machine::balancer::{Inherited, InheritedReal, Steering};
use pgha_machine::{Mac, Weight};

use super::maps::{Maps, Raw};
use super::{DataPlane, XdpError, unmapped};

/// What the maps hold, as far as the controller writes them.
pub(super) struct Seen {
    pub(super) director: Director,
    pub(super) vips: Vec<[u8; 4]>,
    pub(super) peers: BTreeMap<[u8; 6], [u8; 4]>,
    pub(super) services: BTreeMap<ServiceId, Service>,
    /// The bank in use of each service, by its number.
    pub(super) tables: BTreeMap<u16, Arc<Raw<Tables>>>,
    /// Every id that was ever used.
    pub(super) reals: BTreeMap<u16, RealServer>,
}

/// VIP and port, as they lie in the map.
pub(super) type ServiceId = ([u8; 4], [u8; 2]);

impl Seen {
    pub(super) fn read(maps: &Maps) -> Result<Self, XdpError> {
        let Raw(director) = maps.director.get(&0, 0).map_err(XdpError::map(name::DIRECTOR))?;
        let services: BTreeMap<ServiceId, Service> = maps
            .services
            .iter()
            .map(|entry| entry.map(|(Raw(key), Raw(service))| ((key.vip, key.port), service)))
            .collect::<Result<_, MapError>>()
            .map_err(XdpError::map(name::SERVICES))?;
        let mut tables = BTreeMap::new();
        for service in services.values() {
            tables.insert(service.index, maps.read_tables(service.bank)?.into());
        }
        let mut reals = BTreeMap::new();
        for id in 1..MAX_REALS {
            let Raw(real) = maps.reals.get(&id, 0).map_err(XdpError::map(name::REALS))?;
            if real.address != [0; 16] {
                reals.insert(u16::try_from(id).unwrap_or(u16::MAX), real);
            }
        }
        Ok(Self {
            director,
            vips: maps
                .vips
                .keys()
                .collect::<Result<_, MapError>>()
                .map_err(XdpError::map(name::VIPS))?,
            peers: maps
                .peers
                .iter()
                .collect::<Result<_, MapError>>()
                .map_err(XdpError::map(name::PEERS))?,
            services,
            tables,
            reals,
        })
    }
}

impl DataPlane {
    /// What a former controller left, for the machine to go on with.
    #[must_use]
    pub fn inherited(&self) -> Inherited {
        let services = self.seen.services.iter().map(|((vip, port), service)| {
            (service.index, Ipv4Addr::from(*vip), u16::from_be_bytes(*port))
        });
        let ids = self
            .seen
            .reals
            .iter()
            .map(|(id, real)| RealRef { id: *id, generation: real.generation });
        Inherited {
            services: services.collect(),
            reals: self.seen.reals.iter().filter_map(|(id, real)| self.left(*id, real)).collect(),
            ids: ids.collect(),
        }
    }

    /// The other directors that are known, by address.
    #[must_use]
    pub fn peers(&self) -> BTreeMap<Ipv4Addr, Mac> {
        let known = self.seen.peers.iter();
        known.filter_map(|(mac, address)| Some(((*address).into(), Mac::new(*mac)?))).collect()
    }

    fn left(&self, id: u16, real: &RealServer) -> Option<InheritedReal> {
        if real.state == state::ABSENT {
            return None;
        }
        let weight = Weight::new(real.weight).filter(|_| real.flags & real_flag::WEIGHT_SET != 0);
        Some(InheritedReal {
            service: real.service,
            real: RealRef { id, generation: real.generation },
            address: unmapped(real.address)?,
            mac: Mac::new(real.mac),
            dead: real.state == state::DEAD,
            in_service: self
                .seen
                .tables
                .get(&real.service)
                .is_some_and(|tables| tables.0.maglev.contains(&id)),
            steering: Steering { drained: real.flags & real_flag::DRAINED != 0, weight },
        })
    }

    /// Reads the maps anew, so that the next [`DataPlane::apply`] repairs whatever somebody else did
    /// to them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn observe(&mut self) -> Result<(), XdpError> {
        self.seen = Seen::read(&self.maps)?;
        Ok(())
    }
}
