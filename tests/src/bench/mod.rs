//! Benches: the figures that are claimed, measured.

pub mod dataplane;
mod live;
mod samples;
mod single;
mod tables;
