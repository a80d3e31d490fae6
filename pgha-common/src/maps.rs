//! The values and keys of the BPF maps: `repr(C)`, without padding, in one place for both sides.
//!
//! Integers are in host byte order (the maps never leave the node); whatever is compared with bytes
//! of a frame is an array of bytes as it lies in the frame.

pub mod name;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::family::Address;
use crate::table::{RING_SLOTS, SLOTS};
use crate::verdict::Reason;

/// Number of the layout of all maps together. Any change to a type of this module, to the meaning
/// of a value or to the set of maps needs a new one, and a new [`layout`](name::PINNED) of each map
/// that changed.
pub const SCHEMA: u32 = 2;
/// The oldest schema whose maps this one goes on with.
pub const OLDEST_SCHEMA: u32 = 1;

/// How many interfaces a director has at most.
pub const MAX_INTERFACES: u32 = 8;
/// How many virtual services one director carries.
pub const MAX_SERVICES: u32 = 32;
/// How many ids real servers can have, of all services together; id 0 is nobody's. More do not fit into a
/// [`crate::flow::Flow`].
pub const MAX_REALS: u32 = 4096;
/// How many real servers one director carries, of all services together: those of a server in two services
/// are two.
pub const MAX_SERVERS: usize = MAX_REALS as usize - 1;
/// How many other directors one director knows.
pub const MAX_PEERS: u32 = 64;
/// How many addresses one of them has at most.
pub const MAX_PEER_ADDRESSES: u32 = 8;
/// How many networks `allowed_clients` of one service may name.
pub const MAX_ALLOWED: u32 = 1024;

/// Names of the program's constants, set when it is loaded. What they make unreachable is absent from
/// the program: the verifier removes it.
pub mod constant {
    /// Number of the interface it is loaded for.
    pub const INTERFACE: &str = "INTERFACE";
    /// Not 0: every verdict is logged.
    pub const LOG_PACKETS: &str = "LOG_PACKETS";
    /// Not 0: one frame in so many, by chance, is traced.
    pub const TRACE_SAMPLE: &str = "TRACE_SAMPLE";
}

/// What the data plane knows of the node it runs on, for each of its interfaces.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Director {
    /// For each value of a VIP's last byte one bit: 0 says that no VIP ends in it. Most frames of
    /// other traffic are recognised by this alone.
    pub vip_filter: [u64; 4],
    /// For each value of the last six bits of a MAC address one bit: 0 says that no other director's ends so.
    pub peer_filter: u64,
    /// Until when this director is the active one, which answers ARP and neighbour solicitations for
    /// the VIPs: nanoseconds of `CLOCK_BOOTTIME`. 0: it is not; [`ACTIVE_FOR_GOOD`]: no end is set.
    pub active_until: u64,
    /// [`SCHEMA`] of whoever wrote the maps; 0 in maps nobody has written yet.
    pub schema: u32,
    /// MAC address of the interface.
    pub mac: [u8; 6],
    /// Bits of [`director_flag`].
    pub flags: u8,
    /// Keeps the size a multiple of 8.
    pub reserved: [u8; 5],
}

/// [`Director::active_until`] of a director whose role nobody limits.
pub const ACTIVE_FOR_GOOD: u64 = u64::MAX;

/// Flags of a [`Director`].
pub mod director_flag {
    /// Frames with one VLAN tag are balanced as well.
    pub const FORWARDS_TAGGED: u8 = 1;
}

impl Director {
    /// Whether a VIP may have this address; `false` is certain.
    #[must_use]
    #[inline(always)]
    pub fn may_be_vip<A: Address>(&self, address: A) -> bool {
        let last = address.last();
        // The index is the top two bits of a byte: 0 to 3.
        address.is_for_packets() && (self.vip_filter[(last >> 6) as usize] >> (last & 63)) & 1 == 1
    }

    /// Lets [`Self::may_be_vip`] say yes to `address`.
    pub fn admit_vip<A: Address>(&mut self, address: A) {
        let last = address.last();
        self.vip_filter[(last >> 6) as usize] |= 1 << (last & 63);
    }

    /// Whether a MAC address may be another director's; `false` is certain.
    #[must_use]
    #[inline(always)]
    pub const fn may_be_peer(&self, mac: [u8; 6]) -> bool {
        (self.peer_filter >> (mac[5] & 63)) & 1 == 1
    }

    /// Lets [`Self::may_be_peer`] say yes to `mac`.
    pub const fn admit_peer(&mut self, mac: [u8; 6]) {
        self.peer_filter |= 1 << (mac[5] & 63);
    }

    /// Whether a [`director_flag`] is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Another director by MAC address: itself, or one of its addresses.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct PeerKey {
    /// MAC address of one of its interfaces.
    pub mac: [u8; 6],
    /// What the key says: 0 that the MAC address is a director's, 1 that this one has the address. (The
    /// unspecified address is an address here: whoever sends from it is not that director.)
    pub says: [u8; 2],
    /// An address it has, IPv4 as an IPv4-mapped one; else zero.
    pub address: [u8; 16],
}

impl PeerKey {
    /// "This MAC address is a director's."
    #[must_use]
    #[inline(always)]
    pub const fn director(mac: [u8; 6]) -> Self {
        Self { mac, says: [0; 2], address: [0; 16] }
    }

    /// "The director with this MAC address has this address."
    #[must_use]
    #[inline(always)]
    pub const fn address(mac: [u8; 6], address: [u8; 16]) -> Self {
        Self { mac, says: [1, 0], address }
    }
}

/// A virtual service: where clients connect.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct ServiceKey {
    /// The virtual address, IPv4 as an IPv4-mapped one.
    pub vip: [u8; 16],
    /// TCP port, network byte order.
    pub port: [u8; 2],
    /// Keeps the size a multiple of 4; zero.
    pub reserved: [u8; 2],
}

impl ServiceKey {
    /// The service at `vip` and `port` (both as they lie in a frame).
    #[must_use]
    #[inline(always)]
    pub fn new<A: Address>(vip: A, port: [u8; 2]) -> Self {
        Self { vip: vip.mapped(), port, reserved: [0; 2] }
    }
}

/// How a virtual service picks real servers. Replaced as a whole, so that a reader sees either the
/// old table or the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    /// Its number on this director, below [`MAX_SERVICES`]: index of its round robin cursor.
    pub index: u16,
    /// [`Scheduler`] as a number.
    pub scheduler: u8,
    /// Bits of [`service_flag`].
    pub flags: u8,
    /// Index of its current bank in [`name::TABLES`].
    pub bank: u32,
    /// Nanoseconds between two new connections of one source in the long run.
    pub syn_interval: u64,
    /// How many nanoseconds a source may be ahead of that, [`crate::limit`].
    pub syn_tolerance: u64,
}

/// Flags of a [`Service`].
pub mod service_flag {
    /// Only clients in [`super::name::ALLOWED`] may connect.
    pub const RESTRICTED: u8 = 1;
    /// New connections of one source are limited.
    pub const SYN_LIMITED: u8 = 2;
}

/// The way a real server is picked for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Scheduler {
    /// By the hash of the flow, in a weighted Maglev table.
    Maglev = 0,
    /// Weighted round robin over one cursor.
    RoundRobin = 1,
    /// By the hash of the client's address, in the Maglev table.
    Source = 2,
    /// Of two weighted choices by hash, the one with fewer open flows for its weight.
    Least = 3,
}

impl Service {
    /// Whether it picks in this way.
    #[must_use]
    #[inline(always)]
    pub const fn is(&self, scheduler: Scheduler) -> bool {
        self.scheduler == scheduler as u8
    }

    /// Whether a [`service_flag`] is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A network that may connect to a service; the prefix counts 32 bits for the service.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct AllowedKey {
    /// Number of the service, big-endian.
    pub service: [u8; 4],
    /// Address of the client, IPv4 as an IPv4-mapped one.
    pub client: [u8; 16],
}

impl AllowedKey {
    /// Bits of the whole key.
    pub const BITS: u32 = 8 * size_of::<Self>() as u32;

    /// A client of a service.
    #[must_use]
    #[inline(always)]
    pub fn new<A: Address>(service: u16, client: A) -> Self {
        Self { service: u32::from(service).to_be_bytes(), client: client.mapped() }
    }
}

/// Whose new connections to a service are limited together.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct SourceKey {
    /// [`Address::owner`] of the client.
    pub owner: [u8; 8],
    /// Number of the service, big-endian.
    pub service: [u8; 4],
}

impl SourceKey {
    /// A client of a service.
    #[must_use]
    #[inline(always)]
    pub fn new<A: Address>(service: u16, client: A) -> Self {
        Self { owner: client.owner(), service: u32::from(service).to_be_bytes() }
    }
}

/// The look-up tables of one service. A slot names a real server by id; 0 says that there is none.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tables {
    /// The weighted Maglev table, which every service has.
    pub maglev: [u16; SLOTS],
    /// The round robin sequence, for services scheduled so.
    pub ring: [u16; RING_SLOTS],
    /// How many slots of `ring` are in use; 0 when no server is available.
    pub ring_length: u16,
}

/// A real server of one service.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RealServer {
    /// Its address; IPv4 as an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
    pub address: [u8; 16],
    /// Its MAC address; zero while nobody knows it.
    pub mac: [u8; 6],
    /// Which user of this id it is, [`crate::flow::GENERATIONS`]: a flow of another generation is
    /// not its flow.
    pub generation: u16,
    /// [`state`] as a number.
    pub state: u8,
    /// Bits of [`real_flag`].
    pub flags: u8,
    /// Number of its service. In schema 1 this and the next were one number in the byte order of the machine,
    /// below 32: so the layout is the same where that is little-endian.
    pub service: u8,
    /// Number of the director's interface that it is behind.
    pub interface: u8,
    /// The weight an operator set, where [`real_flag::WEIGHT_SET`] says so. The data plane does not
    /// read it; this is for the next controller.
    pub weight: u16,
    /// The weight in force in 64ths, 0 while it gets no new connections. It counts only beside those of
    /// the other servers of its service.
    pub share: u16,
}

/// States of a [`RealServer`].
pub mod state {
    /// Nobody has this id.
    pub const ABSENT: u8 = 0;
    /// Its flows are forwarded to it.
    pub const ALIVE: u8 = 1;
    /// Its flows are answered by RST.
    pub const DEAD: u8 = 2;
}

/// Flags of a [`RealServer`].
pub mod real_flag {
    /// It is this very node.
    pub const LOCAL: u8 = 1;
    /// An operator drains it.
    pub const DRAINED: u8 = 2;
    /// An operator set its weight.
    pub const WEIGHT_SET: u8 = 4;
}

/// A client's TCP connection to a VIP, as it lies in the frames of the client.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct FlowKey<A> {
    /// The client's address.
    pub client: A,
    /// The virtual address.
    pub vip: A,
    /// The client's port and the service's port, network byte order.
    pub ports: [u8; 4],
}

impl<A: Address> FlowKey<A> {
    /// The service it is a connection to.
    #[must_use]
    #[inline(always)]
    pub fn service(&self) -> ServiceKey {
        let [_, _, high, low] = self.ports;
        ServiceKey::new(self.vip, [high, low])
    }
}

/// What one CPU forwarded to one real server.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// New flows (SYNs for which the scheduler picked it).
    pub flows: u64,
}

/// What one CPU received and decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// Frames that came in, counted before anything is decided.
    pub received: u64,
    /// Frames by [`Reason`], counted after.
    pub reasons: [u64; Reason::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self { received: 0, reasons: [0; Reason::COUNT] }
    }
}

/// What precedes a frame in the trace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Traced {
    /// When it got its verdict: nanoseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// [`Reason`] as a number.
    pub reason: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// Number of the interface it came in by.
    pub interface: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<FlowKey<[u8; 4]>>() == 12);
    assert!(size_of::<FlowKey<[u8; 16]>>() == 36);
    assert!(size_of::<crate::flow::Flow>() == 8);
    assert!(MAX_REALS <= crate::flow::IDS);
    assert!(size_of::<RealServer>() == 32);
    assert!(size_of::<Director>() == 64);
    assert!(size_of::<Service>() == 24);
    assert!(size_of::<ServiceKey>() == 20);
    assert!(size_of::<PeerKey>() == 24);
    assert!(size_of::<Tables>() == 2 * (SLOTS + RING_SLOTS + 1));
    assert!(size_of::<Traffic>() == 24);
    assert!(size_of::<AllowedKey>() == 20);
    assert!(size_of::<SourceKey>() == 12);
    assert!(size_of::<Traced>() == 24);
    // With another number of reasons COUNTERS has another layout: give it the next in `name::PINNED`, and
    // the whole the next schema, once this one was in use anywhere.
    assert!(Reason::COUNT == 48);
};
