//! The lease gate: on the cgroup of one start of PostgreSQL it lets packets over TCP pass, both ways, for as
//! long as the lease lasts, and never again after that.
//!
//! What it decides, and why nothing reopens it, is in [`pgha_common::gate`]; here is only what the kernel
//! has to do with it. Each start of PostgreSQL gets this object anew, with a map of its own: nothing that is
//! done to one start's gate can touch another's, none runs out of entries, and an old start's goes with its pins.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![expect(missing_docs, unreachable_pub, reason = "the macro exports the programs")]

#[expect(dead_code, reason = "the balancer needs more of it")]
mod atomic;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::{cgroup_skb, map};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::SkBuffContext;
use pgha_common::gate::{self, Passage};

/// Let through, or done.
const YES: i32 = 1;
/// Dropped, or not done.
const NO: i32 = 0;

/// Where IPv4 has its protocol, and IPv6 the kind of the header that follows.
const PROTOCOL_AT: [usize; 2] = [9, 6];

#[map]
static GATE: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static PASSAGE: PerCpuArray<Passage> = PerCpuArray::with_max_entries(1, 0);

/// The one word of [`GATE`].
struct Word(*mut u64);

impl gate::Gate for Word {
    #[inline(always)]
    fn word(&self) -> u64 {
        // SAFETY: the pointer is to the array's entry, which is there for as long as the program. Volatile: other
        // CPUs write it.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn replace(&self, before: u64, after: u64) -> bool {
        // SAFETY: as above; values of an array lie at multiples of eight.
        unsafe { atomic::compare_exchange(self.0, before, after) }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_boot_ns() }
    }
}

/// Every packet of the cgroup's sockets, from its IP header on.
#[cgroup_skb]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn pgha_gate(packet: SkBuffContext) -> i32 {
    if !concerns(&packet) {
        return YES;
    }
    // The entry is there: the verifier asks all the same.
    let admitted = GATE.get_ptr_mut(0).is_some_and(|word| gate::admits(&Word(word)));
    if let Some(passage) = PASSAGE.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's entry. A packet that interrupts another's program costs at most
        // a count.
        unsafe {
            if admitted {
                (*passage).passed += 1;
            } else {
                (*passage).dropped += 1;
            }
        }
    }
    if admitted { YES } else { NO }
}

/// An order, brought by `BPF_PROG_TEST_RUN`: the packet is the word that is wanted.
#[cgroup_skb]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn pgha_gate_order(packet: SkBuffContext) -> i32 {
    let (Ok(wanted), Some(word)) = (packet.load::<u64>(0), GATE.get_ptr_mut(0)) else { return NO };
    if gate::order(&Word(word), wanted) { YES } else { NO }
}

/// Whether a packet is over TCP. One too short to tell is.
#[inline(always)]
fn concerns(packet: &SkBuffContext) -> bool {
    let Ok(first) = packet.load::<u8>(0) else { return true };
    let at = PROTOCOL_AT[usize::from(first >> 4 == 6)];
    packet.load::<u8>(at).map_or(true, |protocol| gate::concerns(first, protocol))
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
