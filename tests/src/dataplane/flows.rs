//! The flow tables of a data plane, read past the program.
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, IterableMap as _, Map, MapData};
use pgha_common::flow::Flow;
use pgha_common::maps::{FlowKey, name};
use pgha_common::table;
use pgha_ctl::bpf::PinDirectory;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::Family;
use crate::lab::maps;

type Entries<const KEY: usize> = HashMap<MapData, [u8; KEY], u64>;

/// The key of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Over IPv4.
    V4(FlowKey<[u8; 4]>),
    /// Over IPv6.
    V6(FlowKey<[u8; 16]>),
}

impl Key {
    /// That of a client's flow to a service of the same family.
    ///
    /// # Panics
    /// When the families differ.
    #[must_use]
    pub fn new(client: SocketAddr, vip: SocketAddr) -> Self {
        let [a, b] = client.port().to_be_bytes();
        let [c, d] = vip.port().to_be_bytes();
        let ports = [a, b, c, d];
        match (client.ip(), vip.ip()) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                Self::V4(FlowKey { client: client.octets(), vip: vip.octets(), ports })
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                Self::V6(FlowKey { client: client.octets(), vip: vip.octets(), ports })
            }
            families => panic!("two families: {families:?}"),
        }
    }

    /// The slot of the Maglev table that it falls into.
    #[must_use]
    pub fn slot(&self) -> usize {
        table::slot(match self {
            Self::V4(key) => table::hash(key),
            Self::V6(key) => table::hash(key),
        })
    }
}

/// A flow table.
#[derive(Debug)]
pub enum FlowTable {
    /// Of flows over IPv4.
    V4(Entries<12>),
    /// Of flows over IPv6.
    V6(Entries<36>),
}

impl FlowTable {
    /// The table of flows whose server has been seen to answer.
    ///
    /// # Errors
    /// When it is not pinned there.
    pub fn established(pins: &PinDirectory, family: Family) -> Result<Self> {
        Self::open(pins, family, family.pick(name::ESTABLISHED, name::ESTABLISHED6))
    }

    /// The table of other flows.
    ///
    /// # Errors
    /// As [`Self::established`].
    pub fn pending(pins: &PinDirectory, family: Family) -> Result<Self> {
        Self::open(pins, family, family.pick(name::PENDING, name::PENDING6))
    }

    fn open(pins: &PinDirectory, family: Family, map: &str) -> Result<Self> {
        let pinned = MapData::from_pin(pins.join(&maps::pin(map)))
            .with_context(|| format!("pin of {map}"))?;
        let map = Map::LruHashMap(pinned);
        Ok(match family {
            Family::Ipv4 => Self::V4(map.try_into()?),
            Family::Ipv6 => Self::V6(map.try_into()?),
        })
    }

    /// What it holds of a flow; the kernel does not count this as a use of the entry.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Flow> {
        let word = match (self, key) {
            (Self::V4(map), Key::V4(key)) => entry(map, key.as_bytes()),
            (Self::V6(map), Key::V6(key)) => entry(map, key.as_bytes()),
            (Self::V4(_), Key::V6(_)) | (Self::V6(_), Key::V4(_)) => None,
        };
        Flow::read_from_bytes(&word?.to_ne_bytes()).ok()
    }

    /// Has it hold that of a flow.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&mut self, key: &Key, flow: Flow) -> Result<()> {
        match (self, key) {
            (Self::V4(map), Key::V4(key)) => set(map, key.as_bytes(), flow),
            (Self::V6(map), Key::V6(key)) => set(map, key.as_bytes(), flow),
            (Self::V4(_), Key::V6(_)) | (Self::V6(_), Key::V4(_)) => {
                bail!("{key:?} is of the other family")
            }
        }
    }

    /// How many flows it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::V4(map) => map.keys().filter(Result::is_ok).count(),
            Self::V6(map) => map.keys().filter(Result::is_ok).count(),
        }
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The map.
    #[must_use]
    pub fn map(&self) -> &MapData {
        match self {
            Self::V4(map) => map.map(),
            Self::V6(map) => map.map(),
        }
    }
}

fn entry<const KEY: usize>(map: &Entries<KEY>, key: &[u8]) -> Option<u64> {
    map.get(&key.try_into().ok()?, 0).ok()
}

fn set<const KEY: usize>(map: &mut Entries<KEY>, key: &[u8], flow: Flow) -> Result<()> {
    let key: [u8; KEY] = key.try_into()?;
    Ok(map.insert(key, flow.word(), 0)?)
}
