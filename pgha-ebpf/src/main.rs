//! The XDP balancer: layer 2 direct server return for TCP over IPv4 and IPv6.
//!
//! A frame goes through the files in this order: here it is counted; [`steer`] tells by its EtherType, and
//! behind a VLAN tag, what it is; [`arp`] and [`neighbour`] answer for the VIPs; [`ip`] checks what is sent
//! to one; [`icmp`] answers echoes and hands on errors; [`tcp`] says whether it is a segment a client
//! may send; [`balance`] finds its real server by what the maps say ([`world`]: [`flows`], [`services`],
//! [`reals`], [`protect`]); [`forward`] rewrites its MAC addresses or [`reset`] turns it into a RST.
//! Whatever is found out on the way is one [`Reason`](pgha_common::verdict::Reason), and the reason alone
//! decides what the kernel does with the frame.
//!
//! Each rule stands once, for both address families: `F` is the [`Family`](pgha_common::family::Family).
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![expect(missing_docs, unreachable_pub, reason = "the macro exports the program")]

mod aligned;
mod arp;
mod atomic;
mod balance;
mod constant;
mod counters;
mod director;
mod flows;
mod forward;
mod frame;
mod icmp;
mod ip;
mod log;
mod neighbour;
mod packet;
mod protect;
mod reals;
mod reset;
mod services;
mod steer;
mod tcp;
mod trace;
mod verdict;
mod world;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use pgha_common::verdict::Action;

/// The program: every frame in, one verdict out.
#[xdp]
pub fn pgha_balancer(mut context: XdpContext) -> u32 {
    let Some(counters) = counters::open() else { return XDP_PASS };
    counters.received();
    let verdict = steer::steer(&mut context);
    counters.decided(verdict.reason);
    log::verdict(&context, verdict.reason);
    trace::verdict(&context, verdict.reason);
    match (verdict.reason.action(), verdict.redirected) {
        (Action::Forward, true) => XDP_REDIRECT,
        (Action::Forward, false) | (Action::Answer, _) => XDP_TX,
        (Action::Pass, _) => XDP_PASS,
        (Action::Drop, _) => XDP_DROP,
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
