//! Direct server return at layer 2: only the MAC addresses change.

use aya_ebpf::macros::map;
use aya_ebpf::maps::DevMap;
use aya_ebpf::programs::XdpContext;
use pgha_common::balance::Alive;
use pgha_common::maps::{MAX_INTERFACES, real_flag};
use pgha_common::verdict::Reason;
use pgha_common::wire::Ethernet;

use crate::verdict::Verdict;
use crate::{constant, director, frame, reals};

#[map]
static INTERFACES: DevMap = DevMap::with_max_entries(MAX_INTERFACES, 0);

/// Addresses the frame to the real server; untouched when that is this very node.
#[inline(always)]
pub(crate) fn forward(context: &mut XdpContext, real: Alive<'_>, reason: Reason) -> Verdict {
    reals::count_frame(real.id, frame::length(context));
    if real.entry.flags & real_flag::LOCAL != 0 {
        return Reason::LocalServer.into();
    }
    if u32::from(real.entry.interface) != constant::interface() {
        return elsewhere(context, real, reason);
    }
    let Some(ethernet) = frame::at_mut::<Ethernet>(context, 0) else { return Reason::Runt.into() };
    // The frame was addressed to this interface, so its destination is the source to send from.
    ethernet.source = ethernet.destination;
    ethernet.destination = real.entry.mac;
    reason.into()
}

/// As above, by another interface.
#[inline(always)]
fn elsewhere(context: &mut XdpContext, real: Alive<'_>, reason: Reason) -> Verdict {
    let interface = real.entry.interface;
    let sent = director::mac(interface).filter(|mac| *mac != [0; 6]).and_then(|mac| {
        frame::address(context, real.entry.mac, mac)?;
        INTERFACES.redirect(u32::from(interface), 0).ok()
    });
    match sent {
        Some(_) => Verdict { reason, redirected: true },
        None => Reason::RedirectFailed.into(),
    }
}
