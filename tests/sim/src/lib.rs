//! A simulated cluster: some nodes, controllers and a store, with loss, delay, reordering, partitions,
//! pauses, crashes and restarts, driven by the decisions that ship (`pgha_machine::failover`).
//!
//! A [`Plan`] is drawn from a seed, and [`run`] plays it: the same seed gives the same schedule, event for
//! event. What must hold is checked while it runs ([`oracle`]), never by the code that is checked.
//!
//! What is modelled by hand here, and so is believed and not shown: PostgreSQL ([`postgres`]), the gate of
//! the kernel, the network and the store. The tests of the lab use the real ones.

mod agents;
mod backups;
mod breach;
mod campaign;
mod checks;
mod clock;
mod commands;
mod controllers;
mod copies;
mod coverage;
mod driver;
mod faults;
mod lame;
pub mod model;
mod network;
mod operators;
mod oracle;
mod plan;
mod postgres;
mod store;
mod stories;
mod traffic;
mod world;

pub use breach::Breach;
pub use campaign::Campaign;
pub use coverage::Coverage;
pub use oracle::Violation;
pub use plan::Plan;
pub use stories::{Ending, Story};
pub use world::{Outcome, run};
