//! Programs that do nothing of their own: the floor of measurements, and what the far end of a veth
//! needs to take frames sent by `XDP_TX`. And one that does the least that a balancer must, for comparison.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(missing_docs, unreachable_pub, reason = "the macro exports the programs")]

mod aligned;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::XdpContext;

use crate::aligned::Aligned;

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

#[map]
static SERVERS: LruHashMap<[u8; 12], [u8; 8]> = LruHashMap::with_max_entries(1_048_576, 0);

/// Looks a connection up (client, VIP and ports, as they lie in an IPv4 packet without options) and sends the
/// frame to the MAC address it finds: no check of the packet, no state, no counter, no second server.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn lru_forwarder(context: XdpContext) -> u32 {
    const KEY_AT: usize = 26;
    let ctx = context.ctx;
    // SAFETY: the context outlives the program run. The bytes up to the key's end are in the frame before
    // they are touched, and arrays of bytes need no alignment.
    unsafe {
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        if start + KEY_AT + size_of::<[u8; 12]>() > end {
            return XDP_PASS;
        }
        let key = Aligned(*((start + KEY_AT) as *const [u8; 12]));
        let Some(&[a, b, c, d, e, f, ..]) = SERVERS.get(key.here()) else { return XDP_PASS };
        let macs = start as *mut [[u8; 6]; 2];
        (*macs)[1] = (*macs)[0];
        (*macs)[0] = [a, b, c, d, e, f];
    }
    XDP_TX
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
