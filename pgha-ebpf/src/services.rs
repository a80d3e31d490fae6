//! The virtual services and the tables by which they pick.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use pgha_common::maps::{MAX_SERVICES, Service, ServiceKey, Tables};
use pgha_common::table::{self, RING_SLOTS, SLOTS};

use crate::aligned::Aligned;
use crate::atomic;

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
    unsafe { SERVICES.get(Aligned(*key).here()) }.copied()
}

/// The id in a slot of the Maglev table.
#[inline(always)]
pub(crate) fn slot(service: &Service, slot: usize) -> Option<u16> {
    let tables = TABLES.get_ptr(service.bank)?;
    if slot >= SLOTS {
        return None;
    }
    // SAFETY: the entry of an array lives as long as the map; the slot was checked, also for the
    // verifier.
    Some(unsafe { *(&raw const (*tables).maglev).cast::<u16>().add(slot) })
}

/// The next id of the ring: one cursor for all CPUs, so that the order is strict.
#[inline(always)]
pub(crate) fn turn(service: &Service) -> Option<u16> {
    let tables = TABLES.get_ptr(service.bank)?;
    let cursor = CURSORS.get_ptr_mut(u32::from(service.index))?;
    // SAFETY: the entries of an array live as long as the map, and are aligned.
    let (turn, length) = unsafe { (atomic::fetch_add(cursor, 1), (*tables).ring_length) };
    let place = table::place(turn, length)?;
    if place >= RING_SLOTS {
        return None;
    }
    // SAFETY: as above; the place was checked, also for the verifier.
    Some(unsafe { *(&raw const (*tables).ring).cast::<u16>().add(place) })
}
