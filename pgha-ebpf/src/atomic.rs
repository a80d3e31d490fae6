//! Atomic operations on words of maps (`BPF_ATOMIC`, Linux 5.12; on arm64 5.18). The standard library offers none that
//! return a value on this target.

/// Adds `value` (modulo 2^64) and returns what was there before.
///
/// # Safety
/// `word` points to an aligned word of a map.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn fetch_add(word: *mut u64, mut value: u64) -> u64 {
    // SAFETY: the instruction reads and writes the one word, by the caller's word.
    unsafe {
        core::arch::asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word,
            value = inout(reg) value,
        );
    }
    value
}

/// Replaces `before` by `after`; whether it was there.
///
/// # Safety
/// `word` points to an aligned word of a map.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn compare_exchange(word: *mut u64, before: u64, after: u64) -> bool {
    let found: u64;
    // SAFETY: the instruction reads and writes the one word, by the caller's word.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {after})",
            word = in(reg) word,
            after = in(reg) after,
            inout("r0") before => found,
        );
    }
    found == before
}

#[cfg(not(target_arch = "bpf"))]
pub(crate) unsafe fn fetch_add(_word: *mut u64, _value: u64) -> u64 {
    unreachable!("the program runs in the kernel")
}

#[cfg(not(target_arch = "bpf"))]
pub(crate) unsafe fn compare_exchange(_word: *mut u64, _before: u64, _after: u64) -> bool {
    unreachable!("the program runs in the kernel")
}
