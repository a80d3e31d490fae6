//! This node: its MAC address, whether it is active, the VIPs, and the other directors.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use pgha_common::maps::{Director, MAX_PEERS, MAX_SERVICES};

#[map]
static DIRECTOR: Array<Director> = Array::with_max_entries(1, 0);
// Twice as many as can be configured: in a reload the new are written before the old are removed.
#[map]
static VIPS: HashMap<[u8; 4], u32> = HashMap::with_max_entries(2 * MAX_SERVICES, 0);
#[map]
static PEERS: HashMap<[u8; 6], [u8; 4]> = HashMap::with_max_entries(2 * MAX_PEERS, 0);

/// `None` cannot happen: the one entry of the array exists. The verifier asks all the same.
#[inline(always)]
pub(crate) fn this() -> Option<&'static Director> {
    DIRECTOR.get(0)
}

/// Whether `address` is a VIP. Only for the paths on which neither a flow nor a service says so.
#[inline(always)]
pub(crate) fn is_vip(address: [u8; 4]) -> bool {
    VIPS.get_ptr(address).is_some()
}

/// Whether a frame from `mac` was balanced by another director: it is that director's MAC, and the
/// sender is not that director itself (a client on its node is balanced like any other).
#[inline(always)]
pub(crate) fn balanced_elsewhere(this: &Director, mac: [u8; 6], sender: [u8; 4]) -> bool {
    if this.has_peers == 0 {
        return false;
    }
    // SAFETY: the value is copied at once; entries are replaced only by a controller's reload, and
    // an address read half-old would mis-steer that one frame at most.
    unsafe { PEERS.get(mac) }.is_some_and(|address| *address != sender)
}
