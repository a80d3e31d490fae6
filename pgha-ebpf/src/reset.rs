//! Telling a client at once that there is no server for it.

use aya_ebpf::programs::XdpContext;
use pgha_common::family::Family;
use pgha_common::reset::{self, Reset};
use pgha_common::verdict::Reason;

use crate::aligned::Aligned;
use crate::frame;
use crate::tcp::Incoming;

/// Turns the frame into a RST for its sender. A RST is never answered by a RST (RFC 9293, 3.10.7.1).
#[inline(always)]
pub(crate) fn answer<F: Family>(
    context: &mut XdpContext,
    at: usize,
    incoming: &Incoming<F>,
    reason: Reason,
) -> Reason {
    if incoming.segment.resets {
        return Reason::ResetUnanswered;
    }
    let answer = Aligned(reset::answer::<F>(&incoming.key, incoming.segment));
    let done = frame::resize(context, at + size_of::<Reset<F::Header>>()).and_then(|()| {
        frame::turn(context)?;
        *frame::at_mut::<Reset<F::Header>>(context, at)? = *answer;
        Some(())
    });
    if done.is_some() { reason } else { Reason::AnswerFailed }
}
