//! A line for each verdict, for debugging.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::trace;
use pgha_common::verdict::Reason;

use crate::{constant, frame};

/// Logs a frame's length and the number of its reason; the controller makes words of them.
#[inline(always)]
pub(crate) fn verdict(context: &XdpContext, reason: Reason) {
    if constant::logs_packets() {
        trace!(context, "{} {}", frame::length(context), reason as u32);
    }
}
