//! The flow tables. *pending* is small and churns under a flood; a flow enters *established* by
//! evidence that its server answers, so that no flood evicts one of those.

use aya_ebpf::bindings::BPF_ANY;
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

/// The flow that a segment belongs to, looked up first where almost all belong.
#[inline(always)]
pub(crate) fn find(key: &FlowKey, segment: Segment) -> Option<Known> {
    match established(key) {
        Some(known) if known.flow().is_closing() => beside_closing(key, segment, known),
        Some(known) => Some(known),
        None => pending(key)
            .filter(|known| !(segment.opens && known.flow().is_closing()))
            // Between the two looks another CPU may have moved it from the one table to the other.
            .or_else(|| established(key)),
    }
}

/// After a FIN or a RST the port may be used anew: a SYN begins another flow, which is pending beside
/// the closing one until it is established in its place. A segment of neither is of a flow that is
/// not known here.
#[inline(always)]
fn beside_closing(key: &FlowKey, segment: Segment, closing: Known) -> Option<Known> {
    let successor = pending(key);
    if segment.opens {
        return successor.filter(|known| !known.flow().is_closing());
    }
    successor
        .filter(|known| known.flow().claims(segment))
        .or_else(|| closing.flow().admits(segment).then_some(closing))
}

#[inline(always)]
fn established(key: &FlowKey) -> Option<Known> {
    ESTABLISHED.get_ptr_mut(key).map(Known::Established)
}

#[inline(always)]
fn pending(key: &FlowKey) -> Option<Known> {
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
        // may have become another flow's: this one frame then goes to that flow's server.
        unsafe { self.pointer().read_volatile() }
    }

    /// Notes that its client opens a connection, again or anew.
    #[inline(always)]
    pub(crate) fn reopen(&self, segment: Segment) {
        let before = self.flow();
        self.note(before, before.reopened(segment));
    }

    /// Notes what `segment` (no SYN) says; whether the flow is established, now or since before.
    #[inline(always)]
    pub(crate) fn observe(&self, key: &FlowKey, segment: Segment) -> bool {
        let before = self.flow();
        let after = before.after(segment);
        if after != before {
            self.note(before, after);
        }
        match self {
            Self::Established(_) => true,
            Self::Pending(_) => before.is_answered(segment) && establish(key, after),
        }
    }

    /// Writes `after` where `before` still is: an entry that was evicted meanwhile is another flow's.
    #[inline(always)]
    fn note(&self, before: Flow, after: Flow) {
        // SAFETY: a pointer into a preallocated map stays valid for the run of the program, and the
        // state is one aligned word that is only ever accessed whole.
        unsafe { compare_exchange(self.pointer(), before, after) };
    }
}

/// Moves a pending flow to the established ones, over a closing one that had its port before; `false`
/// leaves it where it is.
#[inline(always)]
fn establish(key: &FlowKey, flow: Flow) -> bool {
    let entered = ESTABLISHED.insert(key, flow, u64::from(BPF_ANY)).is_ok();
    if entered {
        let _ = PENDING.remove(key);
    }
    entered
}

/// Replaces `before` by `after`, atomically across CPUs (`BPF_ATOMIC | BPF_CMPXCHG`, Linux 5.12). The
/// standard library offers no such operation on this target.
///
/// # Safety
/// `flow` points to an aligned word of a map.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn compare_exchange(flow: *mut Flow, before: Flow, after: Flow) {
    // SAFETY: the instruction reads and writes the one word at `flow`, by the caller's word.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({flow} + 0, r0, {after})",
            flow = in(reg) flow,
            after = in(reg) after.word(),
            inout("r0") before.word() => _,
        );
    }
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn compare_exchange(_flow: *mut Flow, _before: Flow, _after: Flow) {
    unreachable!("the program runs in the kernel")
}
