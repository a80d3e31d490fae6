//! The values and keys of the BPF maps: `repr(C)`, without padding, in one place for both sides.
//!
//! Integers are in host byte order (the maps never leave the node); whatever is compared with bytes
//! of a frame is an array of bytes as it lies in the frame.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::table::{RING_SLOTS, SLOTS};
use crate::verdict::Reason;

/// Number of the layout of all maps together. Any change to a type of this module, to the meaning
/// of a value or to the set of maps needs a new one: pinned maps of another schema are not used.
pub const SCHEMA: u32 = 1;

/// How many virtual services one director carries.
pub const MAX_SERVICES: u32 = 32;
/// How many ids real servers can have: 128 for each of 32 services; id 0 is nobody's.
pub const MAX_REALS: u32 = 4096;
/// How many other directors one director knows.
pub const MAX_PEERS: u32 = 64;

/// Names of the maps, as the object and the pins have them.
pub mod name {
    /// [`super::Director`], one entry.
    pub const DIRECTOR: &str = "DIRECTOR";
    /// MAC address of another director to its IPv4 address.
    pub const PEERS: &str = "PEERS";
    /// The VIPs, as a set.
    pub const VIPS: &str = "VIPS";
    /// [`super::ServiceKey`] to [`super::Service`].
    pub const SERVICES: &str = "SERVICES";
    /// [`super::Tables`], two banks for each service.
    pub const TABLES: &str = "TABLES";
    /// The round robin cursor of each service.
    pub const CURSORS: &str = "CURSORS";
    /// [`super::RealServer`] by id.
    pub const REALS: &str = "REALS";
    /// [`super::Traffic`] by real server id, per CPU.
    pub const TRAFFIC: &str = "TRAFFIC";
    /// [`super::FlowKey`] to [`crate::flow::Flow`]: flows whose server has not answered yet.
    pub const PENDING: &str = "PENDING";
    /// [`super::FlowKey`] to [`crate::flow::Flow`]: flows whose server has been seen to answer.
    pub const ESTABLISHED: &str = "ESTABLISHED";
    /// [`super::Counters`], per CPU.
    pub const COUNTERS: &str = "COUNTERS";

    /// All of them.
    pub const ALL: &[&str] = &[
        DIRECTOR,
        PEERS,
        VIPS,
        SERVICES,
        TABLES,
        CURSORS,
        REALS,
        TRAFFIC,
        PENDING,
        ESTABLISHED,
        COUNTERS,
    ];
}

/// What the data plane knows of the node it runs on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Director {
    /// For each value of a VIP's last byte one bit: 0 says that no VIP ends in it. Most frames of
    /// other traffic are recognised by this alone.
    pub vip_filter: [u64; 4],
    /// [`SCHEMA`] of whoever wrote the maps; 0 in maps nobody has written yet.
    pub schema: u32,
    /// MAC address of the interface.
    pub mac: [u8; 6],
    /// 1 while this director answers ARP for the VIPs.
    pub active: u8,
    /// 1 when [`name::PEERS`] is not empty.
    pub has_peers: u8,
    /// Keeps the size a multiple of 8.
    pub reserved: [u8; 4],
}

impl Director {
    /// Whether a VIP may have this address; `false` is certain.
    #[must_use]
    #[inline(always)]
    pub const fn may_be_vip(&self, address: [u8; 4]) -> bool {
        let last = address[3];
        // The index is the top two bits of a byte: 0 to 3.
        (self.vip_filter[(last >> 6) as usize] >> (last & 63)) & 1 == 1
    }

    /// Lets [`Self::may_be_vip`] say yes to `address`.
    pub const fn admit_vip(&mut self, address: [u8; 4]) {
        let last = address[3];
        self.vip_filter[(last >> 6) as usize] |= 1 << (last & 63);
    }
}

/// A virtual service: where clients connect.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ServiceKey {
    /// The virtual IPv4 address.
    pub vip: [u8; 4],
    /// TCP port, network byte order.
    pub port: [u8; 2],
    /// Keeps the size a multiple of 4; zero.
    pub reserved: [u8; 2],
}

impl ServiceKey {
    /// The service at `vip` and `port` (both as they lie in a frame).
    #[must_use]
    #[inline(always)]
    pub const fn new(vip: [u8; 4], port: [u8; 2]) -> Self {
        Self { vip, port, reserved: [0; 2] }
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
    pub scheduler: u16,
    /// Index of its current bank in [`name::TABLES`].
    pub bank: u32,
}

/// The way a real server is picked for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Scheduler {
    /// By the hash of the flow, in a weighted Maglev table.
    Maglev = 0,
    /// Weighted round robin over one cursor.
    RoundRobin = 1,
}

impl Service {
    /// Whether new flows go by weighted round robin.
    #[must_use]
    #[inline(always)]
    pub const fn is_round_robin(&self) -> bool {
        self.scheduler == Scheduler::RoundRobin as u16
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
    /// Number of its service.
    pub service: u16,
    /// The weight an operator set, where [`real_flag::WEIGHT_SET`] says so. The data plane reads only
    /// the tables; this is for the next controller.
    pub weight: u16,
    /// Keeps the size a multiple of 8.
    pub reserved: [u8; 2],
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
pub struct FlowKey {
    /// The client's address.
    pub client: [u8; 4],
    /// The virtual address.
    pub vip: [u8; 4],
    /// The client's port and the service's port, network byte order.
    pub ports: [u8; 4],
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

const _: () = {
    assert!(size_of::<FlowKey>() == 12);
    assert!(size_of::<crate::flow::Flow>() == 8);
    assert!(size_of::<RealServer>() == 32);
    assert!(size_of::<Director>() == 48);
    assert!(size_of::<Service>() == 8);
};
