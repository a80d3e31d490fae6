//! Failover: who is the primary, and how another one becomes it without losing what was acknowledged.
//!
//! The parts, in the order in which a failover goes through them:
//!
//! 1. [`record`]: the one record that everybody agrees on, and [`order`]: every write to it, top to bottom;
//! 2. [`agent`]: on each database node, with the lease that it renews and gives up in time;
//! 3. [`coordinator`]: suspects, freezes, proves, and nominates one of those that [`election`] finds;
//! 4. [`agent`] again: the nominee takes the epoch, promotes, and its [`voters`] grow.
//!
//! [`rules`] names what may never break, and where each is kept stands the name.

pub mod agent;
pub mod coordinator;
mod desk;
pub mod election;
#[cfg(test)]
mod fixture;
mod hearing;
pub mod message;
pub mod order;
pub mod pace;
pub mod record;
pub mod rules;
pub mod timing;
pub mod voters;

pub use desk::{Answer, Request, Written};
