//! Reading the maps: what is there now, which is also what a former controller left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use aya::maps::MapError;
use pgha_common::flow::RealRef;
use pgha_common::maps::{
    AllowedKey, Director, MAX_INTERFACES, MAX_REALS, PeerKey, RealServer, Service, ServiceKey,
    Tables, name, real_flag, state,
};
use pgha_machine::balancer::{Inherited, InheritedReal, Steering};
use pgha_machine::{Mac, Neighbour, Weight};

use super::maps::{Maps, Raw};
use super::{DataPlane, XdpError};
use crate::clock::boot_time;

/// What the maps hold, as far as the controller writes them.
pub(super) struct Seen {
    /// By number of the interface.
    pub(super) directors: Vec<Director>,
    pub(super) vips: BTreeSet<[u8; 16]>,
    pub(super) peers: BTreeSet<PeerKey>,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    /// Networks that may connect: the number of bits that count, and the bits.
    pub(super) allowed: BTreeSet<(u32, AllowedKey)>,
    /// The bank in use of each service, by its number.
    pub(super) tables: BTreeMap<u16, Arc<Raw<Tables>>>,
    /// Every id that was ever used.
    pub(super) reals: BTreeMap<u16, RealServer>,
}

impl Seen {
    pub(super) fn read(maps: &Maps) -> Result<Self, XdpError> {
        let services: BTreeMap<ServiceKey, Service> = maps
            .services
            .iter()
            .map(|entry| entry.map(|(Raw(key), Raw(service))| (key, service)))
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
            directors: (0..MAX_INTERFACES)
                .map(|interface| maps.director.get(&interface, 0).map(|Raw(director)| director))
                .collect::<Result<_, MapError>>()
                .map_err(XdpError::map(name::DIRECTOR))?,
            vips: maps
                .vips
                .keys()
                .collect::<Result<_, MapError>>()
                .map_err(XdpError::map(name::VIPS))?,
            peers: maps
                .peers
                .keys()
                .map(|key| key.map(|Raw(key)| key))
                .collect::<Result<_, MapError>>()
                .map_err(XdpError::map(name::PEERS))?,
            allowed: maps
                .allowed
                .keys()
                .map(|key| key.map(|key| (key.prefix_len(), key.data().0)))
                .collect::<Result<_, MapError>>()
                .map_err(XdpError::map(name::ALLOWED))?,
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
        let services =
            self.seen.services.iter().map(|(key, service)| {
                (service.index, address(key.vip), u16::from_be_bytes(key.port))
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

    /// Whether it answers for the VIPs by what the maps say: a former controller's word, until it is
    /// applied anew.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.seen.directors.first().is_some_and(|director| boot_time() < director.active_until)
    }

    /// The other directors that are known: their MAC addresses, each with an address it has.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<(Mac, IpAddr)> {
        let addressed = self.seen.peers.iter().filter(|peer| peer.says != [0; 2]);
        addressed.filter_map(|peer| Some((Mac::new(peer.mac)?, address(peer.address)))).collect()
    }

    fn left(&self, id: u16, real: &RealServer) -> Option<InheritedReal> {
        if real.state == state::ABSENT {
            return None;
        }
        let weight = Weight::new(real.weight).filter(|_| real.flags & real_flag::WEIGHT_SET != 0);
        let service = u16::from(real.service);
        Some(InheritedReal {
            service,
            real: RealRef { id, generation: real.generation },
            address: address(real.address),
            neighbour: Mac::new(real.mac).map(|mac| Neighbour { interface: real.interface, mac }),
            dead: real.state == state::DEAD,
            in_service: self
                .seen
                .tables
                .get(&service)
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

/// An address as it lies in a map.
pub(super) fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address that lies in a map.
pub(super) fn address(mapped: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(mapped).to_canonical()
}
