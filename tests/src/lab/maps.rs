//! What the pinned maps of a director say, read as the data plane reads them.
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use pgha_common::maps::{RealServer, Service, ServiceKey, Tables, name};
use zerocopy::{FromBytes, IntoBytes as _};

/// Bank by bank passes by value through the stack, where a build without optimization keeps several.
const READER_STACK: usize = 16 << 20;

type Bytes<const N: usize> = [u8; N];

/// The maps of one service.
pub struct ServiceMaps {
    key: Bytes<{ size_of::<ServiceKey>() }>,
    services: HashMap<MapData, Bytes<{ size_of::<ServiceKey>() }>, Bytes<{ size_of::<Service>() }>>,
    tables: Array<MapData, Bytes<{ size_of::<Tables>() }>>,
    reals: Array<MapData, Bytes<{ size_of::<RealServer>() }>>,
}

impl ServiceMaps {
    /// Opens the maps pinned in a directory.
    ///
    /// # Errors
    /// When they are not there.
    pub fn open(pins: &Path, vip: IpAddr, port: u16) -> Result<Self> {
        let mut key = [0; size_of::<ServiceKey>()];
        let port = port.to_be_bytes();
        let service = match vip {
            IpAddr::V4(vip) => ServiceKey::new(vip.octets(), port),
            IpAddr::V6(vip) => ServiceKey::new(vip.octets(), port),
        };
        key.copy_from_slice(service.as_bytes());
        Ok(Self {
            key,
            services: open(pins, name::SERVICES, Map::HashMap)?,
            tables: open(pins, name::TABLES, Map::Array)?,
            reals: open(pins, name::REALS, Map::Array)?,
        })
    }

    /// The Maglev table in use.
    ///
    /// # Errors
    /// When there is no such service any more.
    pub fn table(&self) -> Result<Vec<u16>> {
        self.in_use(|_, tables| tables.maglev.to_vec())
    }

    /// Every byte that new connections of this service go by: its entry, and the bank of tables that it
    /// names.
    ///
    /// # Errors
    /// As [`ServiceMaps::table`].
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.in_use(|service, tables| [service.as_bytes(), tables.as_bytes()].concat())
    }

    fn in_use<T: Send>(&self, of: impl FnOnce(&Service, &Tables) -> T + Send) -> Result<T> {
        let read = || {
            let service: Service = value(&self.services.get(&self.key, 0)?)?;
            let tables: Tables = value(&self.tables.get(&service.bank, 0)?)?;
            Ok(of(&service, &tables))
        };
        thread::scope(|scope| {
            let reader =
                thread::Builder::new().stack_size(READER_STACK).spawn_scoped(scope, read)?;
            reader.join().unwrap_or_else(|_| Err(anyhow!("a panic")))
        })
    }

    /// Whether new connections may go to the real server with this id.
    ///
    /// # Errors
    /// As [`ServiceMaps::table`].
    pub fn serves(&self, id: u16) -> Result<bool> {
        Ok(self.table()?.contains(&id))
    }

    /// Whether new connections may go to a real server with this address.
    ///
    /// # Errors
    /// As [`ServiceMaps::table`]; and where they may go to nobody.
    pub fn sends_to(&self, address: IpAddr) -> Result<bool> {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let ids: BTreeSet<_> = self.table()?.into_iter().collect();
        let addresses = ids.into_iter().map(|id| Ok(self.real(id)?.address));
        let addresses: Vec<_> = addresses.collect::<Result<_>>()?;
        Ok(addresses.contains(&address.octets()))
    }

    /// The state of the real server with this id ([`pgha_common::maps::state`]).
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn state(&self, id: u16) -> Result<u8> {
        Ok(self.real(id)?.state)
    }

    fn real(&self, id: u16) -> Result<RealServer> {
        value(&self.reals.get(&u32::from(id), 0)?)
    }
}

/// The name that a map is pinned by: from the second layout of its values on, with its number.
///
/// # Panics
/// When no map has that name.
pub fn pin(map: &str) -> String {
    match name::PINNED.iter().find(|(pinned, _)| *pinned == map) {
        Some((_, 1)) => map.to_owned(),
        Some((_, layout)) => format!("{map}-{layout}"),
        None => panic!("no map {map}"),
    }
}

fn open<T>(pins: &Path, name: &str, kind: fn(MapData) -> Map) -> Result<T>
where
    T: TryFrom<Map, Error = MapError>,
{
    let path = pins.join(pin(name));
    let map = MapData::from_pin(&path).with_context(|| path.display().to_string())?;
    Ok(T::try_from(kind(map))?)
}

fn value<T: FromBytes>(bytes: &[u8]) -> Result<T> {
    T::read_from_bytes(bytes).map_err(|_| anyhow!("a value of another size"))
}
