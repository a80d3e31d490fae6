//! The flows that the data plane remembers, all of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use aya::Pod;
use aya::maps::{Map, MapData};
use pgha_common::family::{Address, V4, V6};
use pgha_common::flow::{Flow, RealRef, TICKS, Tick};
use pgha_common::maps::{FlowKey, name};
use pgha_common::reset::{self, Reset};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::inherit::address;
use super::maps::{FlowTable, Raw};
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

/// Reads the flow tables, on whatever thread: with millions of flows that is no work for one that must answer.
#[derive(Debug)]
pub struct FlowReader {
    tables: Vec<(&'static str, MapData)>,
}

/// What a pass through the flow tables saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many open flows each real server has, by id and generation.
    pub open: BTreeMap<(u16, u16), u64>,
    /// How many flows each table holds, by its name, after those that were removed.
    pub in_use: BTreeMap<&'static str, u64>,
    /// How many closing flows were removed.
    pub swept: u64,
}

impl FlowReader {
    /// Shows each flow to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn walk(&self, mut each: impl FnMut(AnyFlow)) -> Result<(), XdpError> {
        self.tables.iter().try_for_each(|(map, table)| walk_table(map, table, &mut each))
    }

    /// Counts the flows, and removes closing ones from a table of established flows that fills.
    ///
    /// A table that is full evicts what was idle longest, and that is a session rather than one of the
    /// many connections that came and went since. So closing flows go first: once a table is more than three
    /// quarters full, those that have been closing for two ticks, or where these are too few, for one. Not
    /// while there is more room: a mark is not an end, and a forged FIN or RST (or one that this director saw
    /// last) must not make an idle session's flow an unknown one without need. Of the age only the remainder by
    /// [`TICKS`] is known, so that a flow may be spared until a later survey.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn survey(&self, now: Tick) -> Result<Survey, XdpError> {
        let mut survey = Survey::default();
        for (map, table) in &self.tables {
            let mut ages = [0; TICKS as usize];
            let mut entries = 0;
            walk_table(map, table, |found| {
                entries += 1;
                ages[usize::from(found.flow.closing_for(now))] += 1;
                if !found.flow.is_closing() {
                    let RealRef { id, generation } = found.flow.real();
                    *survey.open.entry((id, generation)).or_default() += 1;
                }
            })?;
            let capacity = table.info().map_err(XdpError::map(map))?.max_entries();
            let swept = match (*map, age_to_sweep(entries, capacity.into(), &ages)) {
                (name::ESTABLISHED, Some(age)) => sweep::<[u8; 4]>(map, table, now, age)?,
                (name::ESTABLISHED6, Some(age)) => sweep::<[u8; 16]>(map, table, now, age)?,
                _ => 0,
            };
            survey.swept += swept;
            survey.in_use.insert(map, entries.saturating_sub(swept));
        }
        Ok(survey)
    }
}

fn walk_table(
    map: &'static str,
    table: &MapData,
    mut each: impl FnMut(AnyFlow),
) -> Result<(), XdpError> {
    let state = match map {
        name::PENDING | name::PENDING6 => FlowState::Pending,
        _ => FlowState::Established,
    };
    let walked = match map {
        name::PENDING | name::ESTABLISHED => walk(table, |Raw(key), Raw(flow)| {
            each(AnyFlow { state, flow, key: AnyKey::V4(key) });
        }),
        _ => walk(table, |Raw(key), Raw(flow)| {
            each(AnyFlow { state, flow, key: AnyKey::V6(key) });
        }),
    };
    walked.map_err(|source| XdpError::Walk { map, source })
}

/// For how many ticks a flow of this table must have been closing to be removed from it; `None`: nothing is
/// to be removed. `ages` are numbers of flows by ticks; open ones are at 0.
fn age_to_sweep(entries: u64, capacity: u64, ages: &[u64; TICKS as usize]) -> Option<u8> {
    let room = |left: u64| left * 4 <= capacity * 3;
    let [_, one, older @ ..] = ages;
    let old: u64 = older.iter().sum();
    if room(entries) || old + one == 0 {
        None
    } else if room(entries.saturating_sub(old)) {
        Some(2)
    } else {
        Some(1)
    }
}

/// Removes the flows that have been closing for so many ticks, and says how many.
fn sweep<A>(map: &'static str, table: &MapData, now: Tick, age: u8) -> Result<u64, XdpError>
where
    Raw<FlowKey<A>>: Pod + FromBytes + IntoBytes + Immutable,
{
    let old = |Raw(flow): Raw<Flow>| flow.closing_for(now) >= age;
    let failed = |source| XdpError::Walk { map, source };
    // The walk has the other handle.
    let handle = table.fd().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut entries: FlowTable<A> = MapData::from_fd(handle)
        .and_then(|handle| Map::LruHashMap(handle).try_into())
        .map_err(XdpError::map(map))?;
    let mut swept = 0;
    let walked = walk(table, |key: Raw<FlowKey<A>>, flow: Raw<Flow>| {
        // A batch is read before its first flow is shown, and one may go on by now. What is gone by now, and
        // what cannot be removed, is of no concern: the next survey sees what is there.
        let still = old(flow) && entries.get(&key, 0).is_ok_and(old);
        if still && entries.remove(&key).is_ok() {
            swept += 1;
        }
    });
    walked.map_err(failed)?;
    Ok(swept)
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

#[cfg(test)]
mod tests;
