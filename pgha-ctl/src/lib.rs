//! pgha: the controller and the operator's verbs. The binary is a thin `main` over this library, so
//! that the tests exercise what is shipped.
//!
//! Each module uses only those below it in this list: [`cli`], [`check`], [`controller`], [`agent`] and [`guardian`], then one module
//! for each part of the outside world ([`store`], which is also asked by way of [`rpc`]; [`bpf`], [`net`],
//! [`postgres`], [`fence`]), then [`config`], [`telemetry`], [`beat`], [`sock_diag`] and [`clock`]. What is decided is decided in
//! the package `pgha-machine`.

pub mod agent;
mod beat;
pub mod bpf;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod fence;
pub mod guardian;
pub mod net;
pub mod postgres;
pub mod rpc;
mod sock_diag;
pub mod store;
pub mod telemetry;
