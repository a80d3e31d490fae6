//! Programs that do nothing of their own: the floor of measurements, and what the far end of a veth
//! needs to take frames sent by `XDP_TX`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(missing_docs, unreachable_pub, reason = "the macro exports the programs")]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

#[xdp]
pub fn xdp_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
pub fn xdp_drop(_context: XdpContext) -> u32 {
    XDP_DROP
}

#[xdp]
pub fn xdp_tx(_context: XdpContext) -> u32 {
    XDP_TX
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
