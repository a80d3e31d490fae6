//! The pure core of pgha: every decision, made without clock, thread, socket or file.
//!
//! A driver (in the `pgha` binary) turns the world into events and effects into I/O; the tests and
//! simulators drive the same code. Nothing in this package may depend on a runtime.
//!
//! [`balancer`] decides which real servers a virtual service has and with which weight; [`table`]
//! turns that into the tables the data plane looks up. [`director`] decides whether this director is
//! the one that answers for the VIPs. [`failover`] decides who is the primary, and [`vip`] what becomes of the
//! writer VIP on its node.

pub mod balancer;
pub mod director;
pub mod failover;
pub mod table;
pub mod vip;
mod vocabulary;

pub use vocabulary::*;
