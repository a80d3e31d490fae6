//! The flow tables. *pending* is small and churns under a flood; a flow enters *established* by
//! evidence that its server answers, so that no flood evicts one of those.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use pgha_common::balance::Known;
use pgha_common::family::{Family, V4, V6};
use pgha_common::flow::{Flow, Segment, Tick};
use pgha_common::maps::FlowKey;

use crate::{atomic, reals};

/// A flow table of one family.
pub(crate) type Table<A> = LruHashMap<FlowKey<A>, Flow>;

// The sizes are the configuration's: set when the program is loaded.
#[map]
static PENDING: Table<[u8; 4]> = LruHashMap::with_max_entries(65_536, 0);
#[map]
static ESTABLISHED: Table<[u8; 4]> = LruHashMap::with_max_entries(1_048_576, 0);
#[map]
static PENDING6: Table<[u8; 16]> = LruHashMap::with_max_entries(1024, 0);
#[map]
static ESTABLISHED6: Table<[u8; 16]> = LruHashMap::with_max_entries(1024, 0);

/// A family's flow tables.
pub(crate) trait FlowTables: Family {
    /// Flows whose server has not been seen to answer.
    fn pending() -> &'static Table<Self::Address>;
    /// Flows whose server has.
    fn established() -> &'static Table<Self::Address>;
}

impl FlowTables for V4 {
    #[inline(always)]
    fn pending() -> &'static Table<[u8; 4]> {
        &PENDING
    }

    #[inline(always)]
    fn established() -> &'static Table<[u8; 4]> {
        &ESTABLISHED
    }
}

impl FlowTables for V6 {
    #[inline(always)]
    fn pending() -> &'static Table<[u8; 16]> {
        &PENDING6
    }

    #[inline(always)]
    fn established() -> &'static Table<[u8; 16]> {
        &ESTABLISHED6
    }
}

/// A flow in its table, as it was when it was looked up.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    place: *mut Flow,
    pub(crate) flow: Flow,
}

impl Entry {
    #[inline(always)]
    pub(crate) fn find<A>(table: &Table<A>, key: &FlowKey<A>) -> Option<Self> {
        let place = table.get_ptr_mut(key)?;
        // SAFETY: a pointer into a preallocated map stays readable for the run of the program; the
        // state is one aligned word, so that other CPUs write it whole. An entry evicted meanwhile
        // may have become another flow's: this one frame then goes to that flow's server.
        let flow = unsafe { place.read_volatile() };
        Some(Self { place, flow })
    }

    /// Writes `after` where the flow still is what it was: an entry that was evicted meanwhile is another's.
    #[inline(always)]
    fn note(self, after: Flow) {
        let before = self.flow;
        if after == before {
            return;
        }
        // SAFETY: a pointer into a preallocated map stays valid for the run of the program, and the
        // state is one aligned word that is only ever accessed whole.
        let noted =
            unsafe { atomic::compare_exchange(self.place.cast(), before.word(), after.word()) };
        if noted && before.is_closing() != after.is_closing() {
            reals::count_open(after.real().id, if after.is_closing() { -1 } else { 1 });
        }
    }
}

/// Enters a flow as pending. A SYN begins it anew, over one that was closing; any other segment begins what is
/// not known, and takes no place that is taken.
#[inline(always)]
pub(crate) fn remember<F: FlowTables>(key: &FlowKey<F::Address>, flow: Flow, segment: Segment) {
    let how = if segment.opens { BPF_ANY } else { BPF_NOEXIST };
    // A full LRU table makes room; where it cannot for a moment (ENOMEM), the flow goes by the Maglev table
    // until its next segment, which is the same server unless the scheduler looks at more than the hash.
    if F::pending().insert(key, flow, u64::from(how)).is_ok() && !flow.is_closing() {
        reals::count_open(flow.real().id, 1);
    }
}

/// Removes a flow whose real server is gone, so that its port can be used anew.
#[inline(always)]
pub(crate) fn forget<F: FlowTables>(key: &FlowKey<F::Address>, known: Known<Entry>) {
    let _ = match known {
        Known::Established(_) => F::established().remove(key),
        Known::Pending(_) => F::pending().remove(key),
    };
}

/// Notes that the client opens a connection, again or anew. An established flow learns nothing from that: the
/// SYN may be forged, or late, and its server decides.
#[inline(always)]
pub(crate) fn reopen(known: Known<Entry>, segment: Segment) {
    if let Known::Pending(entry) = known {
        entry.note(entry.flow.reopened(segment));
    }
}

/// Notes what `segment` (no SYN) says; whether the flow is established, now or since before.
#[inline(always)]
pub(crate) fn observe<F: FlowTables>(
    known: Known<Entry>,
    key: &FlowKey<F::Address>,
    segment: Segment,
) -> bool {
    let before = known.entry().flow;
    let mut after = before.after(segment);
    if after.is_closing() && !before.is_closing() {
        // SAFETY: the helper has no preconditions.
        after = after.closing_since(Tick::at(unsafe { bpf_ktime_get_boot_ns() }));
    }
    known.entry().note(after);
    match known {
        Known::Established(_) => true,
        Known::Pending(_) => before.is_answered(segment) && establish::<F>(key, after),
    }
}

/// Moves a pending flow to the established ones, over a closing one that had its port before; `false`
/// leaves it where it is. Where another CPU has just moved it, that one's word stands.
#[inline(always)]
fn establish<F: FlowTables>(key: &FlowKey<F::Address>, flow: Flow) -> bool {
    let entered = F::established().insert(key, flow, u64::from(BPF_NOEXIST)).is_ok()
        || match Entry::find(F::established(), key) {
            Some(former) if former.flow.is_closing() => {
                F::established().insert(key, flow, u64::from(BPF_ANY)).is_ok()
            }
            former => former.is_some(),
        };
    if entered {
        let _ = F::pending().remove(key);
    }
    entered
}
