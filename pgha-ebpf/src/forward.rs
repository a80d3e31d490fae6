//! Direct server return at layer 2: only the MAC addresses change.

use aya_ebpf::programs::XdpContext;
use pgha_common::verdict::Reason;
use pgha_common::wire::Ethernet;

use crate::frame;
use crate::reals::Real;

/// Addresses the frame to the real server; untouched when that is this very node.
#[inline(always)]
pub(crate) fn forward(context: &mut XdpContext, real: &Real, reason: Reason) -> Reason {
    real.count_frame(frame::length(context));
    if real.is_local() {
        return Reason::LocalServer;
    }
    let Some(ethernet) = frame::at_mut::<Ethernet>(context, 0) else { return Reason::Runt };
    // The frame was addressed to this interface, so its destination is the source to send from.
    ethernet.source = ethernet.destination;
    ethernet.destination = real.mac();
    reason
}
