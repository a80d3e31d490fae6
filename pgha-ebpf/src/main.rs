//! The XDP balancer: layer 2 direct server return for TCP over IPv4.
//!
//! A frame goes through the files in this order: here it is counted, [`steer`] tells ARP from IPv4
//! from the rest, [`arp`] answers for the VIPs, [`tcp`] says whether it is a segment a client may
//! send to a VIP, [`balance`] finds its real server ([`flows`], then [`services`], then [`reals`]),
//! [`forward`] rewrites its MAC addresses or [`reset`] turns it into a RST. Whatever is found out on
//! the way is one [`Reason`](pgha_common::verdict::Reason), and the reason alone decides what the
//! kernel does with the frame.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![expect(missing_docs, unreachable_pub, reason = "the macro exports the program")]

mod arp;
mod balance;
mod counters;
mod director;
mod flows;
mod forward;
mod frame;
mod log;
mod reals;
mod reset;
mod services;
mod steer;
mod tcp;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use pgha_common::verdict::Action;

/// The program: every frame in, one verdict out.
#[xdp]
pub fn pgha_balancer(mut context: XdpContext) -> u32 {
    let Some(counters) = counters::open() else { return XDP_PASS };
    counters.received();
    let reason = steer::steer(&mut context);
    counters.decided(reason);
    log::verdict(&context, reason);
    match reason.action() {
        Action::Forward | Action::Answer => XDP_TX,
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
