//! What both sides of pgha's BPF maps share: the types in them, the reasons of verdicts, and the
//! pure functions by which the data plane and everything that explains it must agree.
//!
//! No I/O, no allocation; the same code is compiled for the kernel and for the host.
#![cfg_attr(not(test), no_std)]

pub mod balance;
pub mod checksum;
pub mod family;
pub mod flow;
pub mod gate;
pub mod limit;
pub mod maps;
pub mod neighbour;
pub mod reset;
pub mod table;
pub mod verdict;
pub mod wire;
