//! ARP for the VIPs, answered by the active director only (RFC 826; probes too, RFC 5227).

use aya_ebpf::programs::XdpContext;
use pgha_common::maps::Director;
use pgha_common::verdict::Reason;
use pgha_common::wire::{Arp, Ethernet};

use crate::{director, frame};

/// Answers a request for a VIP in place.
#[inline(always)]
pub(crate) fn steer(context: &mut XdpContext, this: &Director) -> Reason {
    let Some(&asked) = frame::at::<Arp>(context, size_of::<Ethernet>()) else {
        return Reason::Runt;
    };
    // What this director announced itself comes back where a network has a loop: no answer to that.
    if asked.format != Arp::IPV4_OVER_ETHERNET || asked.sender_mac == this.mac {
        return Reason::ArpOther;
    }
    if this.may_be_vip(asked.sender) && director::is_vip(asked.sender) {
        return Reason::ArpClaim;
    }
    if asked.operation != Arp::REQUEST
        || !this.may_be_vip(asked.target)
        || !director::is_vip(asked.target)
    {
        return Reason::ArpOther;
    }
    if this.active == 0 {
        return Reason::ArpInactive;
    }
    let Some(ethernet) = frame::at_mut::<Ethernet>(context, 0) else { return Reason::Runt };
    ethernet.destination = asked.sender_mac;
    ethernet.source = this.mac;
    let Some(arp) = frame::at_mut::<Arp>(context, size_of::<Ethernet>()) else {
        return Reason::Runt;
    };
    *arp = asked.reply(this.mac);
    Reason::ArpAnswered
}
