//! Who may begin a connection, and how often.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{LpmTrie, LruHashMap};
use pgha_common::family::Address;
use pgha_common::limit::Limit;
use pgha_common::maps::{AllowedKey, MAX_ALLOWED, MAX_SERVICES, Service, SourceKey};

use crate::aligned::Aligned;
use crate::atomic;

// Twice as many as can be configured: in a reload the new are written before the old are removed.
#[map]
static ALLOWED: LpmTrie<AllowedKey, u32> =
    LpmTrie::with_max_entries(2 * MAX_ALLOWED * MAX_SERVICES, 0);
#[map]
static SOURCES: LruHashMap<SourceKey, u64> = LruHashMap::with_max_entries(65_536, 0);

/// How often a word is tried to be changed that other CPUs change as well.
const ATTEMPTS: usize = 4;

/// Whether a client is in one of the networks that may connect to the service.
#[inline(always)]
pub(crate) fn allows<A: Address>(service: &Service, client: A) -> bool {
    let key = Aligned(Key::new(AllowedKey::BITS, AllowedKey::new(service.index, client)));
    ALLOWED.get(key.here()).is_some()
}

/// Whether a client may begin one more connection to the service now; it is counted.
#[inline(always)]
pub(crate) fn admits<A: Address>(service: &Service, client: A) -> bool {
    let limit = Limit { interval: service.syn_interval, tolerance: service.syn_tolerance };
    let key = Aligned(SourceKey::new(service.index, client));
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(word) = SOURCES.get_ptr_mut(key.here()) else {
        let _ = SOURCES.insert(key.here(), now + limit.interval, u64::from(BPF_ANY));
        return true;
    };
    for _ in 0..ATTEMPTS {
        // SAFETY: a pointer into a preallocated map stays readable for the run of the program, and the
        // word is aligned.
        let due = unsafe { word.read_volatile() };
        let Some(next) = limit.admit(due, now) else { return false };
        // SAFETY: as above.
        if unsafe { atomic::compare_exchange(word, due, next) } {
            break;
        }
    }
    true
}
