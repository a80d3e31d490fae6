//! Telling a client at once that there is no server for it.

use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use pgha_common::reset::{RESET_LENGTH, Received, ResetFrame, answer as build};
use pgha_common::verdict::Reason;
use pgha_common::wire::{Ethernet, Ipv4};

use crate::frame;
use crate::tcp::Incoming;

/// Turns the frame into a RST for its sender. A RST is never answered by a RST (RFC 9293, 3.10.7.1).
#[inline(always)]
pub(crate) fn answer(context: &mut XdpContext, incoming: &Incoming, reason: Reason) -> Reason {
    if incoming.segment.resets {
        return Reason::ResetUnanswered;
    }
    let Some(reset) = reset_for(context, incoming) else { return Reason::AnswerFailed };
    let surplus = frame::length(context) - RESET_LENGTH;
    // SAFETY: the helper shortens the frame of this very context; every reference into it is gone.
    if unsafe { bpf_xdp_adjust_tail(context.ctx, -(surplus as i32)) } != 0 {
        return Reason::AnswerFailed;
    }
    let Some(frame) = frame::at_mut::<ResetFrame>(context, 0) else { return Reason::AnswerFailed };
    *frame = reset;
    reason
}

#[inline(always)]
fn reset_for(context: &XdpContext, incoming: &Incoming) -> Option<ResetFrame> {
    Some(build(&Received {
        ethernet: frame::at::<Ethernet>(context, 0)?,
        ipv4: frame::at::<Ipv4>(context, size_of::<Ethernet>())?,
        ports: incoming.key.ports,
        segment: incoming.segment,
    }))
}
