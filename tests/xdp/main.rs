//! The shipped XDP program by `BPF_PROG_TEST_RUN`: one case per verdict, and every frame of every
//! case accounted for by the counters ([`harness`]). They need root.
#![expect(clippy::unwrap_used, reason = "a test ends by a panic")]

mod answer;
mod arp;
mod attach;
mod confined;
mod dead;
mod drop;
mod explain;
mod flows;
mod forward;
mod fuzz;
mod gate;
mod harness;
mod headers;
mod icmp;
mod neighbour;
mod offload;
mod pass;
mod protect;
mod redirect;
mod schedulers;
mod schema;
mod tidy;
mod vlan;
mod walk;
