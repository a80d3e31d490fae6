//! The flows that the data plane remembers, all of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use aya::maps::MapData;
use pgha_common::family::{Address, V4, V6};
use pgha_common::flow::{Flow, RealRef};
use pgha_common::maps::{FlowKey, name};
use pgha_common::reset::{self, Reset};
use zerocopy::{Immutable, IntoBytes};

use super::inherit::address;
use super::maps::Raw;
use super::{DataPlane, XdpError};
use crate::bpf::walk::walk;

/// In which table a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowState {
    /// Its server has not been seen to answer.
    Pending,
    /// Its server has.
    Established,
}

impl FlowState {
    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Established => "established",
        }
    }
}

/// A flow of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyFlow {
    /// In which table it is.
    pub state: FlowState,
    /// What is remembered of it.
    pub flow: Flow,
    key: AnyKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnyKey {
    V4(FlowKey<[u8; 4]>),
    V6(FlowKey<[u8; 16]>),
}

impl AnyFlow {
    /// The client's end.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.ends().0
    }

    /// The VIP's end.
    #[must_use]
    pub fn vip(&self) -> SocketAddr {
        self.ends().1
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        match self.key {
            AnyKey::V4(key) => ends(&key),
            AnyKey::V6(key) => ends(&key),
        }
    }

    /// The packet that tells its client that it is over, and whom it goes to.
    #[must_use]
    pub fn reset(&self) -> (Vec<u8>, IpAddr) {
        let packet = match self.key {
            AnyKey::V4(key) => packet(&reset::unprompted::<V4>(&key, self.flow)),
            AnyKey::V6(key) => packet(&reset::unprompted::<V6>(&key, self.flow)),
        };
        (packet, self.client().ip())
    }

    /// The packet that its client answers with the number at which it expects its server to go on, and
    /// whom it goes to; `None` for a client that has acknowledged nothing.
    #[must_use]
    pub fn probe(&self) -> Option<(Vec<u8>, IpAddr)> {
        let packet = match self.key {
            AnyKey::V4(key) => packet(&reset::probe::<V4>(&key, self.flow)?),
            AnyKey::V6(key) => packet(&reset::probe::<V6>(&key, self.flow)?),
        };
        Some((packet, self.client().ip()))
    }
}

fn ends<A: Address>(key: &FlowKey<A>) -> (SocketAddr, SocketAddr) {
    let [a, b, c, d] = key.ports;
    let end = |ip: A, port| SocketAddr::new(address(ip.mapped()), u16::from_be_bytes(port));
    (end(key.client, [a, b]), end(key.vip, [c, d]))
}

fn packet<H: IntoBytes + Immutable>(packet: &Reset<H>) -> Vec<u8> {
    [packet.ip.as_bytes(), packet.tcp.as_bytes()].concat()
}

/// Reads the flow tables, on whatever thread: a million flows take a good part of a second.
#[derive(Debug)]
pub struct FlowReader {
    tables: Vec<(&'static str, MapData)>,
}

impl FlowReader {
    /// Shows each flow to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn walk(&self, mut each: impl FnMut(AnyFlow)) -> Result<(), XdpError> {
        for (map, table) in &self.tables {
            let state = match *map {
                name::PENDING | name::PENDING6 => FlowState::Pending,
                _ => FlowState::Established,
            };
            let walked = match *map {
                name::PENDING | name::ESTABLISHED => walk(table, |Raw(key), Raw(flow)| {
                    each(AnyFlow { state, flow, key: AnyKey::V4(key) });
                }),
                _ => walk(table, |Raw(key), Raw(flow)| {
                    each(AnyFlow { state, flow, key: AnyKey::V6(key) });
                }),
            };
            walked.map_err(|source| XdpError::Walk { map, source })?;
        }
        Ok(())
    }

    /// How many open flows each real server has, by id and generation.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn count_open(&self) -> Result<BTreeMap<(u16, u16), u64>, XdpError> {
        let mut counts = BTreeMap::new();
        self.walk(|found| {
            if !found.flow.is_closing() {
                let RealRef { id, generation } = found.flow.real();
                *counts.entry((id, generation)).or_default() += 1;
            }
        })?;
        Ok(counts)
    }
}

impl DataPlane {
    /// A reader of the flow tables as they are.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flow_reader(&self) -> Result<FlowReader, XdpError> {
        let pins = self.settings_pins();
        let open = |map| {
            let table = MapData::from_pin(pins.map(map)).map_err(XdpError::map(map))?;
            Ok((map, table))
        };
        let tables = [name::ESTABLISHED, name::PENDING, name::ESTABLISHED6, name::PENDING6];
        Ok(FlowReader { tables: tables.into_iter().map(open).collect::<Result<_, XdpError>>()? })
    }

    /// Corrects the counts of open flows: the program cannot see what its tables evict.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn correct_open(&mut self, counts: &BTreeMap<(u16, u16), u64>) -> Result<(), XdpError> {
        for (id, real) in &self.seen.reals {
            let count = counts.get(&(*id, real.generation)).copied().unwrap_or(0);
            let written = self.maps.open.set(u32::from(*id), count, 0);
            written.map_err(XdpError::map(name::OPEN))?;
        }
        Ok(())
    }

    /// How many flows are open at the real server with this id, about.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_flows(&self, id: u16) -> Result<u64, XdpError> {
        let open = self.maps.open.get(&u32::from(id), 0).map_err(XdpError::map(name::OPEN))?;
        Ok(open.cast_signed().max(0).cast_unsigned())
    }
}
