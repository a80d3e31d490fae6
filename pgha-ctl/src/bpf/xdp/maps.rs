//! Typed handles to the maps of the XDP program.

use std::panic::resume_unwind;
use std::thread;

use aya::maps::xdp::DevMap;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::{Ebpf, Pod};
use pgha_common::flow::Flow;
use pgha_common::maps::{
    AllowedKey, Counters, Director, FlowKey, MAX_INTERFACES, PeerKey, RealServer, SCHEMA, Service,
    ServiceKey, SourceKey, Tables, Traffic, name,
};

pub(super) use super::super::raw::Raw;
use super::XdpError;

/// A flow table of one family.
pub(super) type FlowTable<A> = HashMap<MapData, Raw<FlowKey<A>>, Raw<Flow>>;

/// The flow tables of one family.
pub(super) struct FlowTables<A> {
    pub(super) pending: FlowTable<A>,
    pub(super) established: FlowTable<A>,
}

/// The maps that the controller reads and writes.
pub(super) struct Maps {
    pub(super) director: Array<MapData, Raw<Director>>,
    pub(super) interfaces: DevMap<MapData>,
    pub(super) peers: HashMap<MapData, Raw<PeerKey>, u32>,
    pub(super) vips: HashMap<MapData, [u8; 16], u32>,
    pub(super) services: HashMap<MapData, Raw<ServiceKey>, Raw<Service>>,
    pub(super) allowed: LpmTrie<MapData, Raw<AllowedKey>, u32>,
    pub(super) sources: HashMap<MapData, Raw<SourceKey>, u64>,
    pub(super) tables: Array<MapData, Raw<Tables>>,
    pub(super) cursors: Array<MapData, u64>,
    pub(super) reals: Array<MapData, Raw<RealServer>>,
    pub(super) open: Array<MapData, u64>,
    pub(super) traffic: PerCpuArray<MapData, Raw<Traffic>>,
    counters: PerCpuArray<MapData, Raw<Counters>>,
    pub(super) flows: FlowTables<[u8; 4]>,
    pub(super) flows6: FlowTables<[u8; 16]>,
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, XdpError> {
        Ok(Self {
            director: take(ebpf, name::DIRECTOR)?,
            interfaces: take(ebpf, name::INTERFACES)?,
            peers: take(ebpf, name::PEERS)?,
            vips: take(ebpf, name::VIPS)?,
            services: take(ebpf, name::SERVICES)?,
            allowed: take(ebpf, name::ALLOWED)?,
            sources: take(ebpf, name::SOURCES)?,
            tables: take(ebpf, name::TABLES)?,
            cursors: take(ebpf, name::CURSORS)?,
            reals: take(ebpf, name::REALS)?,
            open: take(ebpf, name::OPEN)?,
            traffic: take(ebpf, name::TRAFFIC)?,
            counters: take(ebpf, name::COUNTERS)?,
            flows: FlowTables {
                pending: take(ebpf, name::PENDING)?,
                established: take(ebpf, name::ESTABLISHED)?,
            },
            flows6: FlowTables {
                pending: take(ebpf, name::PENDING6)?,
                established: take(ebpf, name::ESTABLISHED6)?,
            },
        })
    }

    /// Says in empty maps whose they are.
    pub(super) fn write_schema(&mut self) -> Result<(), XdpError> {
        let director = Director { schema: SCHEMA, ..Director::default() };
        (0..MAX_INTERFACES)
            .try_for_each(|interface| self.director.set(interface, Raw(director), 0))
            .map_err(XdpError::map(name::DIRECTOR))
    }

    /// One bank of look-up tables.
    pub(super) fn read_tables(&self, bank: u32) -> Result<Box<Raw<Tables>>, XdpError> {
        // aya hands values on by value, and a bank is 136 KiB: unoptimised, its copies do not fit into
        // the 2 MiB of stack that a thread has by default.
        let read = || self.tables.get(&bank, 0).map(Box::new);
        thread::scope(|scope| {
            let reader = thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, read);
            let failed = |source| XdpError::Thread { source };
            reader
                .map_err(failed)?
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
                .map_err(XdpError::map(name::TABLES))
        })
    }

    /// The counters of all CPUs together.
    pub(super) fn counters(&self) -> Result<Counters, XdpError> {
        let mut sum = Counters::default();
        for Raw(cpu) in values(self.counters.get(&0, 0), name::COUNTERS)?.iter() {
            sum.received += cpu.received;
            for (total, count) in sum.reasons.iter_mut().zip(cpu.reasons) {
                *total += count;
            }
        }
        Ok(sum)
    }

    /// What all CPUs together forwarded to the real server with this id.
    pub(super) fn traffic(&self, id: u16) -> Result<Traffic, XdpError> {
        let mut sum = Traffic::default();
        for Raw(cpu) in values(self.traffic.get(&u32::from(id), 0), name::TRAFFIC)?.iter() {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
            sum.flows += cpu.flows;
        }
        Ok(sum)
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<T, XdpError> {
    let taken = ebpf.take_map(map).ok_or(XdpError::Incomplete(map))?;
    T::try_from(taken).map_err(XdpError::map(map))
}

fn values<T: Pod>(
    read: Result<PerCpuValues<T>, MapError>,
    map: &'static str,
) -> Result<PerCpuValues<T>, XdpError> {
    read.map_err(XdpError::map(map))
}
