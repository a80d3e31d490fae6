//! Constants that are set when the program is loaded. The verifier knows them, and removes what they make
//! unreachable.

#[unsafe(no_mangle)]
static INTERFACE: u32 = 0;
#[unsafe(no_mangle)]
static LOG_PACKETS: u32 = 0;
#[unsafe(no_mangle)]
static TRACE_SAMPLE: u32 = 0;

/// Number of the interface this program is on.
#[inline(always)]
pub(crate) fn interface() -> u32 {
    read(&INTERFACE)
}

/// Whether every verdict is logged.
#[inline(always)]
pub(crate) fn logs_packets() -> bool {
    read(&LOG_PACKETS) != 0
}

/// One frame in so many is traced; 0: none.
#[inline(always)]
pub(crate) fn trace_sample() -> u32 {
    read(&TRACE_SAMPLE)
}

#[inline(always)]
fn read(constant: &'static u32) -> u32 {
    // SAFETY: a reference is readable; volatile keeps the compiler from taking the zeros above for the
    // values, which the loader writes before the program exists.
    unsafe { (&raw const *constant).read_volatile() }
}
