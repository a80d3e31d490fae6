//! The flow tables. *pending* is small and churns under a flood; a flow enters *established* by
//! evidence that its server answers, so that no flood evicts one of those.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use pgha_common::balance::Known;
use pgha_common::family::{Family, V4, V6};
use pgha_common::flow::{Flow, Segment};
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

/// The place of a flow in its table.
#[derive(Clone, Copy)]
pub(crate) struct Entry(*mut Flow);

impl Entry {
    #[inline(always)]
    pub(crate) fn find<A>(table: &Table<A>, key: &FlowKey<A>) -> Option<Self> {
        table.get_ptr_mut(key).map(Self)
    }

    /// What it holds now.
    #[inline(always)]
    pub(crate) fn read(self) -> Flow {
        // SAFETY: a pointer into a preallocated map stays readable for the run of the program; the
        // state is one aligned word, so that other CPUs write it whole. An entry evicted meanwhile
        // may have become another flow's: this one frame then goes to that flow's server.
        unsafe { self.0.read_volatile() }
    }

    /// Writes `after` where `before` still is: an entry that was evicted meanwhile is another flow's.
    #[inline(always)]
    fn note(self, before: Flow, after: Flow) {
        // SAFETY: a pointer into a preallocated map stays valid for the run of the program, and the
        // state is one aligned word that is only ever accessed whole.
        let noted = unsafe { atomic::compare_exchange(self.0.cast(), before.word(), after.word()) };
        if noted && before.is_closing() != after.is_closing() {
            reals::count_open(after.real().id, if after.is_closing() { -1 } else { 1 });
        }
    }
}

/// Enters a flow as pending.
#[inline(always)]
pub(crate) fn remember<F: FlowTables>(key: &FlowKey<F::Address>, flow: Flow) {
    // A full LRU table makes room; where it cannot for a moment (ENOMEM), the identical Maglev table
    // carries the flow until its next segment.
    if F::pending().insert(key, flow, u64::from(BPF_ANY)).is_ok() && !flow.is_closing() {
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

/// Notes that its client opens a connection, again or anew.
#[inline(always)]
pub(crate) fn reopen(known: Known<Entry>, segment: Segment) {
    let before = known.entry().read();
    known.entry().note(before, before.reopened(segment));
}

/// Notes what `segment` (no SYN) says; whether the flow is established, now or since before.
#[inline(always)]
pub(crate) fn observe<F: FlowTables>(
    known: Known<Entry>,
    key: &FlowKey<F::Address>,
    segment: Segment,
) -> bool {
    let before = known.entry().read();
    let after = before.after(segment);
    if after != before {
        known.entry().note(before, after);
    }
    match known {
        Known::Established(_) => true,
        Known::Pending(_) => before.is_answered(segment) && establish::<F>(key, after),
    }
}

/// Moves a pending flow to the established ones, over a closing one that had its port before; `false`
/// leaves it where it is.
#[inline(always)]
fn establish<F: FlowTables>(key: &FlowKey<F::Address>, flow: Flow) -> bool {
    let entered = F::established().insert(key, flow, u64::from(BPF_ANY)).is_ok();
    if entered {
        let _ = F::pending().remove(key);
    }
    entered
}
