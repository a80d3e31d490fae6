//! The flow tables. *pending* is small and churns under a flood; a flow enters *established* by
//! evidence that its server answers, so that no flood evicts one of those.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use pgha_common::flow::{Flow, Segment};
use pgha_common::maps::FlowKey;

// The sizes are the configuration's: set when the program is loaded.
#[map]
static PENDING: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(65_536, 0);
#[map]
static ESTABLISHED: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1_048_576, 0);

/// A remembered flow, in the table it is in.
pub(crate) enum Known {
    /// Its server has been seen to answer.
    Established(*mut Flow),
    /// Not yet.
    Pending(*mut Flow),
}

/// Looks a connection up, first where almost all segments belong.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> Option<Known> {
    if let Some(flow) = ESTABLISHED.get_ptr_mut(key) {
        return Some(Known::Established(flow));
    }
    PENDING.get_ptr_mut(key).map(Known::Pending)
}

/// Enters a flow as pending.
#[inline(always)]
pub(crate) fn remember(key: &FlowKey, flow: Flow) {
    // A full LRU table makes room; where it cannot for a moment (ENOMEM), the identical Maglev table
    // carries the flow until its next segment.
    let _ = PENDING.insert(key, flow, u64::from(BPF_ANY));
}

/// Removes a flow whose real server is gone, so that its port can be used anew.
#[inline(always)]
pub(crate) fn forget(key: &FlowKey, known: &Known) {
    let _ = match known {
        Known::Established(_) => ESTABLISHED.remove(key),
        Known::Pending(_) => PENDING.remove(key),
    };
}

impl Known {
    #[inline(always)]
    const fn pointer(&self) -> *mut Flow {
        match self {
            Self::Established(flow) | Self::Pending(flow) => *flow,
        }
    }

    /// Its state now.
    #[inline(always)]
    pub(crate) fn flow(&self) -> Flow {
        // SAFETY: a pointer into a preallocated map stays readable for the run of the program; the
        // state is one aligned word, so that other CPUs write it whole. An entry evicted meanwhile
        // may have become another flow's: this frame then goes to that flow's server, once.
        unsafe { self.pointer().read_volatile() }
    }

    /// Notes that its client opens a connection, again or anew.
    #[inline(always)]
    pub(crate) fn reopen(&self) {
        self.note(self.flow().reopened());
    }

    /// Notes what `segment` (no SYN) says; whether the flow is established, now or since before.
    #[inline(always)]
    pub(crate) fn observe(&self, key: &FlowKey, segment: Segment) -> bool {
        let before = self.flow();
        let after = before.after(segment);
        if after != before {
            self.note(after);
        }
        match self {
            Self::Established(_) => true,
            Self::Pending(_) => before.is_answered(segment) && establish(key, after),
        }
    }

    #[inline(always)]
    fn note(&self, flow: Flow) {
        // SAFETY: as in `flow`; one aligned word is written whole.
        unsafe { self.pointer().write_volatile(flow) };
    }
}

/// Moves a pending flow to the established ones; `false` leaves it where it is.
#[inline(always)]
fn establish(key: &FlowKey, flow: Flow) -> bool {
    let entered = ESTABLISHED.insert(key, flow, u64::from(BPF_NOEXIST)).is_ok();
    if entered {
        let _ = PENDING.remove(key);
    }
    entered
}
