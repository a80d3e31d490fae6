//! What the data plane does with a connection, and why: its own decision, made from a reading of its maps.

use std::net::{IpAddr, SocketAddr};

use pgha_common::balance::{Decision, Known, World, decide};
use pgha_common::family::Address;
use pgha_common::flow::{Flow, RealRef, Segment};
use pgha_common::limit::Limit;
use pgha_common::maps::{
    AllowedKey, FlowKey, RealServer, Service, ServiceKey, SourceKey, real_flag,
};
use pgha_common::table;
use pgha_common::verdict::Reason;

use super::flows::FlowState;
use super::maps::{FlowTable, FlowTables, Maps, Raw};
use super::{DataPlane, XdpError};
use crate::clock::boot_time;

/// What becomes of one client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Number of the service; `None` where the VIP has none on that port.
    pub service: Option<u16>,
    /// The connection that is known.
    pub flow: Option<KnownFlow>,
    /// A segment that goes on with it, or one that nobody knows.
    pub segment: Segment,
    /// What becomes of that.
    pub next: Choice,
    /// What becomes of a SYN.
    pub connect: Choice,
}

/// A connection that the data plane remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFlow {
    /// In which table.
    pub state: FlowState,
    /// With what.
    pub flow: Flow,
}

/// A verdict, and the real server it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Why.
    pub reason: Reason,
    /// Whereto.
    pub real: Option<RealRef>,
}

/// The maps as they were read a moment ago; flows, open counts, cursors and limits are read anew for each
/// question.
pub struct Reading<'a> {
    plane: &'a DataPlane,
}

impl DataPlane {
    /// Reads the maps, to explain by them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reading(&mut self) -> Result<Reading<'_>, XdpError> {
        self.observe()?;
        Ok(self.as_written())
    }

    /// The maps as this process wrote them, or read them last: what nobody else has changed since.
    #[must_use]
    pub const fn as_written(&self) -> Reading<'_> {
        Reading { plane: self }
    }
}

impl Reading<'_> {
    /// What becomes of the connection from `client` to `vip`; `None` when they are of different families.
    #[must_use]
    pub fn explain(&self, client: SocketAddr, vip: SocketAddr) -> Option<Explanation> {
        let ports = [client.port().to_be_bytes(), vip.port().to_be_bytes()];
        let [[a, b], [c, d]] = ports;
        let ports = [a, b, c, d];
        match (client.ip(), vip.ip()) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                Some(self.of(&FlowKey { client: client.octets(), vip: vip.octets(), ports }))
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                Some(self.of(&FlowKey { client: client.octets(), vip: vip.octets(), ports }))
            }
            _ => None,
        }
    }

    fn of<A: FamilyTables>(&self, key: &FlowKey<A>) -> Explanation {
        let flow = self.known(key);
        let segment = flow.map_or(Segment::acknowledging(0), |known| going_on(known.flow));
        Explanation {
            service: World::<A>::service(self, &key.service()).map(|service| service.index),
            flow,
            segment,
            next: choose(self, key, segment),
            connect: choose(self, key, Segment::opening()),
        }
    }

    /// The flow that the client goes on with: beside a closing one its successor.
    fn known<A: FamilyTables>(&self, key: &FlowKey<A>) -> Option<KnownFlow> {
        let of = |state| move |flow| KnownFlow { state, flow };
        let established = World::<A>::established(self, key).map(of(FlowState::Established));
        if established.is_some_and(|known| !known.flow.is_closing()) {
            return established;
        }
        World::<A>::pending(self, key).map(of(FlowState::Pending)).or(established)
    }
}

/// A segment that carries the numbers of a flow, as far as they are known.
fn going_on(flow: Flow) -> Segment {
    Segment {
        sequence: flow.first_sequence().unwrap_or(0),
        ..Segment::acknowledging(flow.acknowledgement().unwrap_or(0))
    }
}

fn choose<A: FamilyTables>(reading: &Reading<'_>, key: &FlowKey<A>, segment: Segment) -> Choice {
    // The program looks at this before it decides.
    if reading.is_vip(key.client) && reading.is_vip(key.vip) {
        return Choice { reason: Reason::FromVip, real: None };
    }
    let (reason, real) = match decide(reading, key, segment) {
        Decision::Refuse(reason) => return Choice { reason, real: None },
        Decision::Follow(_, real) if segment.opens => (Reason::SynAgain, real),
        Decision::Follow(Known::Established(_), real) => (Reason::EstablishedFlow, real),
        Decision::Follow(Known::Pending(_), real) => (Reason::PendingFlow, real),
        Decision::Begin(real, _) if segment.opens => (Reason::NewFlow, real),
        Decision::Begin(real, _) => (Reason::UnknownFlow, real),
    };
    let local = real.entry.flags & real_flag::LOCAL != 0;
    let reason = if local { Reason::LocalServer } else { reason };
    Choice { reason, real: Some(real.reference()) }
}

/// An address family's flow tables.
trait FamilyTables: Address {
    fn tables(maps: &Maps) -> &FlowTables<Self>;
}

impl FamilyTables for [u8; 4] {
    fn tables(maps: &Maps) -> &FlowTables<Self> {
        &maps.flows
    }
}

impl FamilyTables for [u8; 16] {
    fn tables(maps: &Maps) -> &FlowTables<Self> {
        &maps.flows6
    }
}

impl<A: FamilyTables> World<A> for Reading<'_> {
    type Entry = Flow;

    fn established(&self, key: &FlowKey<A>) -> Option<Flow> {
        flow(&A::tables(&self.plane.maps).established, key)
    }

    fn pending(&self, key: &FlowKey<A>) -> Option<Flow> {
        flow(&A::tables(&self.plane.maps).pending, key)
    }

    fn flow(&self, entry: Flow) -> Flow {
        entry
    }

    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.plane.seen.services.get(key).copied()
    }

    fn is_vip(&self, address: A) -> bool {
        self.plane.seen.vips.contains(&address.mapped())
    }

    fn allows(&self, service: &Service, client: A) -> bool {
        let client = AllowedKey::new(service.index, client);
        self.plane.seen.allowed.iter().any(|(bits, network)| same_prefix(*bits, network, &client))
    }

    fn admits(&self, service: &Service, client: A) -> bool {
        let key = Raw(SourceKey::new(service.index, client));
        let limit = Limit { interval: service.syn_interval, tolerance: service.syn_tolerance };
        let due = self.plane.maps.sources.get(&key, 0).unwrap_or(0);
        limit.admit(due, boot_time()).is_some()
    }

    fn slot(&self, service: &Service, slot: usize) -> Option<u16> {
        self.plane.seen.tables.get(&service.index)?.0.maglev.get(slot).copied()
    }

    fn turn(&self, service: &Service) -> Option<u16> {
        let Raw(tables) = &**self.plane.seen.tables.get(&service.index)?;
        let cursor = self.plane.maps.cursors.get(&u32::from(service.index), 0).ok()?;
        tables.ring.get(table::place(cursor, tables.ring_length)?).copied()
    }

    fn open_flows(&self, id: u16) -> u64 {
        self.plane.open_flows(id).unwrap_or(0)
    }

    fn real(&self, id: u16) -> Option<&RealServer> {
        self.plane.seen.reals.get(&id)
    }
}

fn flow<A: Address>(table: &FlowTable<A>, key: &FlowKey<A>) -> Option<Flow> {
    table.get(&Raw(*key), 0).ok().map(|Raw(flow)| flow)
}

/// Whether the first `bits` of two keys are equal.
fn same_prefix(bits: u32, one: &AllowedKey, other: &AllowedKey) -> bool {
    let number =
        |key: &AllowedKey| (u32::from_be_bytes(key.service), u128::from_be_bytes(key.client));
    let ((service, network), (of, client)) = (number(one), number(other));
    let address_bits = bits.saturating_sub(u32::BITS);
    let differs = (network ^ client).checked_shr(u128::BITS - address_bits).unwrap_or(0);
    service == of && differs == 0
}
