//! Names of the maps, as the object has them.

/// [`super::Director`] by number of the interface.
pub const DIRECTOR: &str = "DIRECTOR";
/// The interfaces by number, to send through.
pub const INTERFACES: &str = "INTERFACES";
/// [`super::PeerKey`], as a set: the other directors, and the addresses they have.
pub const PEERS: &str = "PEERS";
/// The VIPs, as a set; IPv4 as IPv4-mapped addresses.
pub const VIPS: &str = "VIPS";
/// [`super::ServiceKey`] to [`super::Service`].
pub const SERVICES: &str = "SERVICES";
/// [`super::AllowedKey`] by longest prefix, as a set: the networks that may connect.
pub const ALLOWED: &str = "ALLOWED";
/// [`super::SourceKey`] to the state of its limit, [`crate::limit`].
pub const SOURCES: &str = "SOURCES";
/// [`super::Tables`], two banks for each service.
pub const TABLES: &str = "TABLES";
/// The round robin cursor of each service.
pub const CURSORS: &str = "CURSORS";
/// [`super::RealServer`] by id.
pub const REALS: &str = "REALS";
/// How many flows are open at each real server, by id: what the scheduler `least` goes by.
pub const OPEN: &str = "OPEN";
/// [`super::Traffic`] by real server id, per CPU.
pub const TRAFFIC: &str = "TRAFFIC";
/// [`super::FlowKey`] to [`crate::flow::Flow`]: IPv4 flows whose server has not answered yet.
pub const PENDING: &str = "PENDING";
/// [`super::FlowKey`] to [`crate::flow::Flow`]: IPv4 flows whose server has been seen to answer.
pub const ESTABLISHED: &str = "ESTABLISHED";
/// As [`PENDING`], IPv6.
pub const PENDING6: &str = "PENDING6";
/// As [`ESTABLISHED`], IPv6.
pub const ESTABLISHED6: &str = "ESTABLISHED6";
/// [`super::Counters`], per CPU.
pub const COUNTERS: &str = "COUNTERS";

/// Frames and their verdicts, [`super::Traced`]: for as long as somebody traces, and never pinned.
pub const TRACE: &str = "TRACE";

/// All that are pinned, with the number of the layout of each: a map whose layout did not change
/// from one schema to the next is gone on with.
pub const PINNED: &[(&str, u32)] = &[
    (DIRECTOR, 2),
    (INTERFACES, 1),
    (PEERS, 2),
    (VIPS, 2),
    (SERVICES, 2),
    (ALLOWED, 1),
    (SOURCES, 1),
    (TABLES, 1),
    (CURSORS, 1),
    (REALS, 1),
    (OPEN, 1),
    (TRAFFIC, 1),
    (PENDING, 1),
    (ESTABLISHED, 1),
    (PENDING6, 1),
    (ESTABLISHED6, 1),
    (COUNTERS, 2),
];
