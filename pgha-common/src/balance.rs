//! Which real server a segment goes to. The data plane decides by this, and whoever explains it too:
//! each brings its own [`World`], the program the maps as they are, `pgha explain` a reading of them.

use crate::family::Address;
use crate::flow::{Flow, RealRef, Segment};
use crate::maps::{FlowKey, RealServer, Scheduler, Service, ServiceKey, service_flag, state};
use crate::table;
use crate::verdict::Reason;

/// What a decision is made from.
pub trait World<A: Address> {
    /// Where a flow is kept.
    type Entry: Copy;

    /// A flow whose server has been seen to answer.
    fn established(&self, key: &FlowKey<A>) -> Option<Self::Entry>;
    /// A flow whose server has not.
    fn pending(&self, key: &FlowKey<A>) -> Option<Self::Entry>;
    /// What is kept there now.
    fn flow(&self, entry: Self::Entry) -> Flow;
    /// The service at an address and port.
    fn service(&self, key: &ServiceKey) -> Option<Service>;
    /// Whether the address is a VIP, of whatever service.
    fn is_vip(&self, address: A) -> bool;
    /// Whether a client may connect to a restricted service.
    fn allows(&self, service: &Service, client: A) -> bool;
    /// Whether a client may open one more connection to a limited service now; the program counts it.
    fn admits(&self, service: &Service, client: A) -> bool;
    /// The id in a slot of the service's Maglev table.
    fn slot(&self, service: &Service, slot: usize) -> Option<u16>;
    /// The id whose turn it is in the service's ring; the program moves on.
    fn turn(&self, service: &Service) -> Option<u16>;
    /// How many flows are open at the real server with this id.
    fn open_flows(&self, id: u16) -> u64;
    /// The real server with this id, in whatever state.
    fn real(&self, id: u16) -> Option<&RealServer>;
}

/// A real server that is alive.
#[derive(Clone, Copy, Debug)]
pub struct Alive<'w> {
    /// Its id.
    pub id: u16,
    /// What is known of it.
    pub entry: &'w RealServer,
}

impl Alive<'_> {
    /// Its id and which user of that it is.
    #[must_use]
    #[inline(always)]
    pub const fn reference(&self) -> RealRef {
        RealRef { id: self.id, generation: self.entry.generation }
    }
}

/// A remembered flow, in the table it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<E> {
    /// Its server has been seen to answer.
    Established(E),
    /// Not yet.
    Pending(E),
}

impl<E: Copy> Known<E> {
    /// Where it is kept.
    #[must_use]
    #[inline(always)]
    pub const fn entry(self) -> E {
        match self {
            Self::Established(entry) | Self::Pending(entry) => entry,
        }
    }
}

/// What is to be done with a segment.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'w, E> {
    /// It stays with the real server of its flow.
    Follow(Known<E>, Alive<'w>),
    /// It begins a flow at this real server. The flow that had its addresses and ports until now, if
    /// one is given, is over.
    Begin(Alive<'w>, Option<Known<E>>),
    /// It gets no real server.
    Refuse(Reason),
}

/// Decides about a segment to a VIP.
#[inline(always)]
pub fn decide<'w, A: Address, W: World<A>>(
    world: &'w W,
    key: &FlowKey<A>,
    segment: Segment,
) -> Decision<'w, W::Entry> {
    let Some(known) = find(world, key, segment) else { return begin(world, key, segment, None) };
    // A segment of a known flow stays with its real server for as long as that is not dead.
    match of(world, world.flow(known.entry()).real()) {
        Some(real) => Decision::Follow(known, real),
        None if segment.opens => begin(world, key, segment, Some(known)),
        None if world.is_vip(key.vip) => Decision::Refuse(Reason::DeadServer),
        None => Decision::Refuse(Reason::NotVip),
    }
}

/// The flow that a segment belongs to, looked up first where almost all belong.
#[inline(always)]
pub fn find<A: Address, W: World<A>>(
    world: &W,
    key: &FlowKey<A>,
    segment: Segment,
) -> Option<Known<W::Entry>> {
    let established = || world.established(key).map(Known::Established);
    match established() {
        Some(known) if world.flow(known.entry()).is_closing() => {
            beside_closing(world, key, segment, known)
        }
        Some(known) => Some(known),
        None => world
            .pending(key)
            .filter(|entry| !(segment.opens && world.flow(*entry).is_closing()))
            .map(Known::Pending)
            // Between the two looks another CPU may have moved it from the one table to the other; not if it
            // only begins.
            .or_else(|| if segment.opens { None } else { established() }),
    }
}

/// After a FIN or a RST the port may be used anew: a SYN begins another flow, which is pending beside
/// the closing one until it is established in its place.
#[inline(always)]
fn beside_closing<A: Address, W: World<A>>(
    world: &W,
    key: &FlowKey<A>,
    segment: Segment,
    closing: Known<W::Entry>,
) -> Option<Known<W::Entry>> {
    let successor = world.pending(key).map(|entry| (entry, world.flow(entry)));
    let of_successor = |flow: Flow| {
        if segment.opens { !flow.is_closing() } else { flow.claims(segment) }
    };
    match successor {
        Some((entry, flow)) if of_successor(flow) => Some(Known::Pending(entry)),
        _ if segment.opens => None,
        _ => Some(closing),
    }
}

/// A segment of an unknown flow goes where its service says.
#[inline(always)]
fn begin<'w, A: Address, W: World<A>>(
    world: &'w W,
    key: &FlowKey<A>,
    segment: Segment,
    over: Option<Known<W::Entry>>,
) -> Decision<'w, W::Entry> {
    let Some(service) = world.service(&key.service()) else {
        let vip = world.is_vip(key.vip);
        return Decision::Refuse(if vip { Reason::NoService } else { Reason::NotVip });
    };
    if service.has(service_flag::RESTRICTED) && !world.allows(&service, key.client) {
        return Decision::Refuse(Reason::NotAllowed);
    }
    if segment.opens
        && service.has(service_flag::SYN_LIMITED)
        && !world.admits(&service, key.client)
    {
        return Decision::Refuse(Reason::SynLimited);
    }
    match pick(world, &service, key, segment) {
        Some(real) => Decision::Begin(real, over),
        None => Decision::Refuse(Reason::NoServer),
    }
}

/// A SYN goes by the service's scheduler. Any other segment goes by the Maglev table, which every
/// director builds alike: its flow may have begun at another.
#[inline(always)]
fn pick<'w, A: Address, W: World<A>>(
    world: &'w W,
    service: &Service,
    key: &FlowKey<A>,
    segment: Segment,
) -> Option<Alive<'w>> {
    let hash =
        if service.is(Scheduler::Source) { table::hash_client(key) } else { table::hash(key) };
    if segment.opens && service.is(Scheduler::RoundRobin) {
        return alive(world, world.turn(service)?);
    }
    let first = by_hash(world, service, hash);
    if segment.opens && service.is(Scheduler::Least) {
        return less_loaded(world, first, by_hash(world, service, table::again(hash)));
    }
    first
}

#[inline(always)]
fn by_hash<'w, A: Address, W: World<A>>(
    world: &'w W,
    service: &Service,
    hash: u64,
) -> Option<Alive<'w>> {
    alive(world, world.slot(service, table::slot(hash))?)
}

/// The one with fewer open flows for its weight; the first where they are equal.
#[inline(always)]
fn less_loaded<'w, A: Address, W: World<A>>(
    world: &'w W,
    first: Option<Alive<'w>>,
    second: Option<Alive<'w>>,
) -> Option<Alive<'w>> {
    let (Some(one), Some(other)) = (first, second) else { return first.or(second) };
    // Each count by the other's weight: the fractions compared without a division.
    let load = |real: Alive<'_>, weight_of: Alive<'_>| {
        world.open_flows(real.id).wrapping_mul(u64::from(weight_of.entry.share.max(1)))
    };
    Some(if load(other, one) < load(one, other) { other } else { one })
}

/// The real server of a flow; `None` when it is dead or its id belongs to another by now.
#[inline(always)]
pub fn of<A: Address, W: World<A>>(world: &W, real: RealRef) -> Option<Alive<'_>> {
    alive(world, real.id).filter(|found| found.entry.generation == real.generation)
}

/// The real server that a table names; `None` for nobody (id 0) and the dead.
#[inline(always)]
fn alive<A: Address, W: World<A>>(world: &W, id: u16) -> Option<Alive<'_>> {
    let entry = world.real(id)?;
    (entry.state == state::ALIVE).then_some(Alive { id, entry })
}

#[cfg(test)]
mod tests;
