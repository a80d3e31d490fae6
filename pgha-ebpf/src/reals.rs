//! The real servers, and what was sent to each.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use pgha_common::maps::{MAX_REALS, RealServer, Traffic};

use crate::atomic;

#[map]
static REALS: Array<RealServer> = Array::with_max_entries(MAX_REALS, 0);
#[map]
static OPEN: Array<u64> = Array::with_max_entries(MAX_REALS, 0);
#[map]
static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(MAX_REALS, 0);

/// The real server with this id, in whatever state.
#[inline(always)]
pub(crate) fn get(id: u16) -> Option<&'static RealServer> {
    REALS.get(u32::from(id))
}

/// How many flows are open there. An estimate between two counts of the controller: what the flow tables
/// evict is not seen here.
#[inline(always)]
pub(crate) fn open_flows(id: u16) -> u64 {
    // More ends than begins say that some of those begun were not counted: none is known to be open.
    OPEN.get(u32::from(id)).map_or(0, |open| open.cast_signed().max(0).cast_unsigned())
}

/// Counts flows that began there, or with -1 one that ended.
#[inline(always)]
pub(crate) fn count_open(id: u16, flows: i64) {
    if let Some(open) = OPEN.get_ptr_mut(u32::from(id)) {
        // SAFETY: the entry of an array lives as long as the map, and is aligned.
        unsafe { atomic::fetch_add(open, flows.cast_unsigned()) };
    }
}

/// Counts a frame of `bytes` bytes that goes there.
#[inline(always)]
pub(crate) fn count_frame(id: u16, bytes: usize) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(u32::from(id)) {
        // SAFETY: the pointer is to this CPU's entry, which no other program run touches.
        unsafe {
            (*traffic).packets += 1;
            (*traffic).bytes += bytes as u64;
        }
    }
}

/// Counts a new flow that the scheduler sent there.
#[inline(always)]
pub(crate) fn count_flow(id: u16) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(u32::from(id)) {
        // SAFETY: as in `count_frame`.
        unsafe { (*traffic).flows += 1 }
    }
}
