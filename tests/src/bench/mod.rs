//! Benches: the figures that are claimed, measured.

pub mod dataplane;
pub mod failover;
pub mod health;
mod live;
mod mock;
mod process;
mod samples;
mod single;
mod tables;
