//! Whole frames with their verdicts, for who traces.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerfEventArray;
use aya_ebpf::programs::XdpContext;
use pgha_common::maps::Traced;
use pgha_common::verdict::Reason;

use crate::{constant, frame};

#[map]
static TRACE: PerfEventArray<Traced> = PerfEventArray::new(0);

/// Hands over a frame as it leaves: what is forwarded or answered already rewritten.
#[inline(always)]
pub(crate) fn verdict(context: &XdpContext, reason: Reason) {
    let sample = constant::trace_sample();
    if sample == 0 {
        return;
    }
    // SAFETY: the helpers have no preconditions.
    let (chance, time) = unsafe { (bpf_get_prandom_u32(), bpf_ktime_get_boot_ns()) };
    if chance % sample != 0 {
        return;
    }
    let length = frame::length(context) as u32;
    let interface = constant::interface();
    let traced = Traced { time, reason: reason as u32, length, interface, reserved: 0 };
    // The flags of the helper say how much of the frame follows.
    TRACE.output(context, traced, length);
}
