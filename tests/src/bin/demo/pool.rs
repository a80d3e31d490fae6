//! The real servers as the data plane has them, read from its pinned maps: nothing is asked of the
//! controller whose speed is being measured.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, HashMap, Map, MapData};
use pgha_common::maps::{RealServer, Service, ServiceKey, Tables, name, state};
use zerocopy::FromBytes;

/// The maps of one director's only service.
pub(super) struct Pool {
    services: HashMap<MapData, [u8; size_of::<ServiceKey>()], [u8; size_of::<Service>()]>,
    tables: Array<MapData, [u8; size_of::<Tables>()]>,
    reals: Array<MapData, [u8; size_of::<RealServer>()]>,
}

impl Pool {
    /// Opens them where the cluster `lab` pins them below `bpffs`.
    pub(super) fn open(bpffs: &Path) -> Result<Self> {
        let open = |map| {
            let path = bpffs.join("pgha/lab").join(map);
            MapData::from_pin(&path).with_context(|| path.display().to_string())
        };
        Ok(Self {
            services: Map::HashMap(open(name::SERVICES)?).try_into()?,
            tables: Map::Array(open(name::TABLES)?).try_into()?,
            reals: Map::Array(open(name::REALS)?).try_into()?,
        })
    }

    /// Waits until no slot of the table in use names this server; how long after `since` that was.
    pub(super) fn wait_gone(&self, address: Ipv4Addr, since: Instant) -> Result<Duration> {
        let id = self.id_of(address)?;
        while self.table()?.maglev.contains(&id) {
            if since.elapsed() > Duration::from_secs(30) {
                bail!("{address} was still in the table after 30 s");
            }
        }
        Ok(since.elapsed())
    }

    fn table(&self) -> Result<Box<Tables>> {
        let entry = self.services.iter().next().context("no service in the map")??;
        let service: Service = value(&entry.1)?;
        Ok(Box::new(value(&self.tables.get(&service.bank, 0)?)?))
    }

    fn id_of(&self, address: Ipv4Addr) -> Result<u16> {
        for id in 1..self.reals.len() {
            let real: RealServer = value(&self.reals.get(&id, 0)?)?;
            let found = Ipv6Addr::from(real.address).to_ipv4_mapped();
            if found == Some(address) && real.state != state::ABSENT {
                return Ok(u16::try_from(id)?);
            }
        }
        bail!("{address} is not in the map of real servers")
    }
}

fn value<T: FromBytes>(bytes: &[u8]) -> Result<T> {
    T::read_from_bytes(bytes).ok().context("a map of another schema")
}
