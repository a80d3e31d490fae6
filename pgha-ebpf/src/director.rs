//! This node: its MAC addresses, whether it is active, the VIPs, and the other directors.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use pgha_common::family::Address;
use pgha_common::maps::{
    ACTIVE_FOR_GOOD, Director, MAX_INTERFACES, MAX_PEER_ADDRESSES, MAX_PEERS, MAX_SERVICES, PeerKey,
};

use crate::aligned::Aligned;
use crate::constant;

#[map]
static DIRECTOR: Array<Director> = Array::with_max_entries(MAX_INTERFACES, 0);
// Twice as many as can be configured: in a reload the new are written before the old are removed.
#[map]
static VIPS: HashMap<[u8; 16], u32> = HashMap::with_max_entries(2 * MAX_SERVICES, 0);
#[map]
static PEERS: HashMap<PeerKey, u32> = HashMap::with_max_entries(
    2 * MAX_PEERS * MAX_INTERFACES * (MAX_PEER_ADDRESSES + 1),
    BPF_F_NO_PREALLOC,
);

/// This node as its interface has it that the frame came in by. `None` cannot happen: every interface has
/// its entry in the array. The verifier asks all the same.
#[inline(always)]
pub(crate) fn this() -> Option<&'static Director> {
    DIRECTOR.get(constant::interface())
}

/// The MAC address of another of its interfaces.
#[inline(always)]
pub(crate) fn mac(interface: u8) -> Option<[u8; 6]> {
    DIRECTOR.get(u32::from(interface)).map(|director| director.mac)
}

/// Whether this director answers for the VIPs now.
#[inline(always)]
pub(crate) fn is_active(this: &Director) -> bool {
    this.active_until == ACTIVE_FOR_GOOD
        // SAFETY: the helper has no preconditions.
        || unsafe { bpf_ktime_get_boot_ns() } < this.active_until
}

/// Whether `address` is a VIP. Only for the paths on which neither a flow nor a service says so.
#[inline(always)]
pub(crate) fn is_vip<A: Address>(address: A) -> bool {
    VIPS.get_ptr(Aligned(address.mapped()).here()).is_some()
}

/// Whether a frame from `mac` was balanced by another director, or is its probe of this very node: it is that
/// director's MAC, and either the sender is not that director itself (a client on its node is balanced
/// like any other), or the packet may make no further hop, so that it is for nobody else.
#[inline(always)]
pub(crate) fn balanced_elsewhere<A: Address>(
    this: &Director,
    mac: [u8; 6],
    sender: A,
    hops: u8,
) -> bool {
    this.may_be_peer(mac)
        && PEERS.get_ptr(Aligned(PeerKey::director(mac)).here()).is_some()
        && (hops <= 1
            || PEERS.get_ptr(Aligned(PeerKey::address(mac, sender.mapped())).here()).is_none())
}
