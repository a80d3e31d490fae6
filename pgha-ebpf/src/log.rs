//! A line for each verdict, for debugging: absent from the program unless it is loaded with
//! `LOG_PACKETS` set, because the verifier removes what a constant makes unreachable.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::trace;
use pgha_common::verdict::Reason;

use crate::frame;

#[unsafe(no_mangle)]
static LOG_PACKETS: u32 = 0;

/// Logs a frame's length and the number of its reason; the controller makes words of them.
#[inline(always)]
pub(crate) fn verdict(context: &XdpContext, reason: Reason) {
    // SAFETY: the loader sets the constant before the program exists; volatile keeps the compiler
    // from taking the zero above for its value.
    if unsafe { (&raw const LOG_PACKETS).read_volatile() } != 0 {
        trace!(context, "{} {}", frame::length(context), reason as u32);
    }
}
