//! The virtual services and the tables by which they pick.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use pgha_common::maps::{FlowKey, MAX_SERVICES, Service, ServiceKey, Tables};
use pgha_common::table::{self, RING_SLOTS, SLOTS};

#[map]
static SERVICES: HashMap<ServiceKey, Service> = HashMap::with_max_entries(MAX_SERVICES, 0);
#[map]
static TABLES: Array<Tables> = Array::with_max_entries(2 * MAX_SERVICES, 0);
#[map]
static CURSORS: Array<u64> = Array::with_max_entries(MAX_SERVICES, 0);

/// The service at an address and port.
#[inline(always)]
pub(crate) fn find(key: &ServiceKey) -> Option<Service> {
    // SAFETY: the value is copied at once; the map replaces entries whole.
    unsafe { SERVICES.get(key) }.copied()
}

/// The real server that the Maglev table names for a flow.
#[inline(always)]
pub(crate) fn by_hash(service: &Service, key: &FlowKey) -> Option<u16> {
    let tables = TABLES.get_ptr(service.bank)?;
    let slot = table::slot(table::hash(key));
    if slot >= SLOTS {
        return None;
    }
    // SAFETY: the entry of an array lives as long as the map; the slot was checked, also for the
    // verifier.
    Some(unsafe { *(&raw const (*tables).maglev).cast::<u16>().add(slot) })
}

/// The next real server of the ring: one cursor for all CPUs, so that the order is strict.
#[inline(always)]
pub(crate) fn next(service: &Service) -> Option<u16> {
    let tables = TABLES.get_ptr(service.bank)?;
    let cursor = CURSORS.get_ptr_mut(u32::from(service.index))?;
    // SAFETY: the entries of an array live as long as the map, and are aligned.
    let (turn, length) = unsafe { (fetch_increment(cursor), (*tables).ring_length) };
    let place = table::place(turn, length)?;
    if place >= RING_SLOTS {
        return None;
    }
    // SAFETY: as above; the place was checked, also for the verifier.
    Some(unsafe { *(&raw const (*tables).ring).cast::<u16>().add(place) })
}

/// Adds 1 and returns what was there before, atomically across CPUs (`BPF_ATOMIC | BPF_FETCH`,
/// Linux 5.12). The standard library offers no such operation on this target.
///
/// # Safety
/// `counter` points to an aligned word of a map.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn fetch_increment(counter: *mut u64) -> u64 {
    let mut value = 1u64;
    // SAFETY: the instruction reads and writes the one word at `counter`, by the caller's word.
    unsafe {
        core::arch::asm!(
            "{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
            counter = in(reg) counter,
            value = inout(reg) value,
        );
    }
    value
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn fetch_increment(_counter: *mut u64) -> u64 {
    unreachable!("the program runs in the kernel")
}
