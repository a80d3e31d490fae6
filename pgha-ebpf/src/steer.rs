//! Whom a frame is for: ARP, a VIP's service, or not us.

use aya_ebpf::programs::XdpContext;
use pgha_common::verdict::Reason;
use pgha_common::wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet};

use crate::{arp, director, frame, tcp};

/// Decides about one frame and, for an answer or a real server, rewrites it.
#[inline(always)]
pub(crate) fn steer(context: &mut XdpContext) -> Reason {
    let Some(this) = director::this() else { return Reason::NotVip };
    let Some(ethernet) = frame::at::<Ethernet>(context, 0) else { return Reason::Runt };
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => tcp::steer(context, this),
        ETHERTYPE_ARP => arp::steer(context, this),
        _ => Reason::NotIpv4,
    }
}
