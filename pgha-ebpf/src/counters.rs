//! Received frames and their reasons, per CPU.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use pgha_common::maps::Counters;
use pgha_common::verdict::Reason;

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's counters.
pub(crate) struct Open(*mut Counters);

/// `None` cannot happen: the one entry of the array exists. The verifier asks all the same.
#[inline(always)]
pub(crate) fn open() -> Option<Open> {
    COUNTERS.get_ptr_mut(0).map(Open)
}

impl Open {
    /// A frame came in.
    #[inline(always)]
    pub(crate) fn received(&self) {
        // SAFETY: the pointer is to this CPU's entry, which no other program run touches meanwhile.
        unsafe { (*self.0).received += 1 }
    }

    /// It got its verdict.
    #[inline(always)]
    pub(crate) fn decided(&self, reason: Reason) {
        let index = reason as usize;
        if index < Reason::COUNT {
            // SAFETY: as above; the index was checked, also for the verifier.
            unsafe { *(&raw mut (*self.0).reasons).cast::<u64>().add(index) += 1 }
        }
    }
}
