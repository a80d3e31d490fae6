//! The real servers, and what was sent to each.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use pgha_common::flow::RealRef;
use pgha_common::maps::{MAX_REALS, RealServer, Traffic, real_flag, state};

#[map]
static REALS: Array<RealServer> = Array::with_max_entries(MAX_REALS, 0);
#[map]
static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(MAX_REALS, 0);

/// A real server that is alive.
pub(crate) struct Real {
    id: u16,
    entry: &'static RealServer,
}

/// The real server of a flow; `None` when it is dead or its id belongs to another by now.
#[inline(always)]
pub(crate) fn of(real: RealRef) -> Option<Real> {
    available(real.id).filter(|found| found.entry.generation == real.generation)
}

/// The real server that a table names; `None` for nobody (id 0) and the dead.
#[inline(always)]
pub(crate) fn available(id: u16) -> Option<Real> {
    let entry = REALS.get(u32::from(id))?;
    (entry.state == state::ALIVE).then_some(Real { id, entry })
}

impl Real {
    #[inline(always)]
    pub(crate) const fn id(&self) -> u16 {
        self.id
    }

    #[inline(always)]
    pub(crate) const fn generation(&self) -> u16 {
        self.entry.generation
    }

    /// Its MAC address.
    #[inline(always)]
    pub(crate) const fn mac(&self) -> [u8; 6] {
        self.entry.mac
    }

    /// Whether it is this very node.
    #[inline(always)]
    pub(crate) const fn is_local(&self) -> bool {
        self.entry.flags & real_flag::LOCAL != 0
    }

    /// Counts a frame of `bytes` bytes that goes to it.
    #[inline(always)]
    pub(crate) fn count_frame(&self, bytes: usize) {
        if let Some(traffic) = TRAFFIC.get_ptr_mut(u32::from(self.id)) {
            // SAFETY: the pointer is to this CPU's entry, which no other program run touches.
            unsafe {
                (*traffic).packets += 1;
                (*traffic).bytes += bytes as u64;
            }
        }
    }

    /// Counts a new flow that the scheduler gave it.
    #[inline(always)]
    pub(crate) fn count_flow(&self) {
        if let Some(traffic) = TRAFFIC.get_ptr_mut(u32::from(self.id)) {
            // SAFETY: as in `count_frame`.
            unsafe { (*traffic).flows += 1 }
        }
    }
}
