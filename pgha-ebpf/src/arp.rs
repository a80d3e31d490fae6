//! ARP for the VIPs, answered by the active director only (RFC 826; probes too, RFC 5227).

use aya_ebpf::programs::XdpContext;
use pgha_common::maps::Director;
use pgha_common::verdict::Reason;
use pgha_common::wire::Arp;

use crate::aligned::Aligned;
use crate::{director, frame};

/// Answers a request for a VIP in place.
#[inline(always)]
pub(crate) fn steer(context: &mut XdpContext, this: &Director, at: usize) -> Reason {
    let Some(asked) = frame::at::<Arp>(context, at).copied().map(Aligned) else {
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
    if !frame::is_for(context, this.mac) {
        return Reason::NotOurMac;
    }
    if !director::is_active(this) {
        return Reason::ArpInactive;
    }
    if frame::address(context, asked.sender_mac, this.mac).is_none() {
        return Reason::Runt;
    }
    let Some(arp) = frame::at_mut::<Arp>(context, at) else { return Reason::Runt };
    *arp = asked.reply(this.mac);
    Reason::ArpAnswered
}
