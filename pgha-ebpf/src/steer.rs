//! What a frame is: ARP, IPv4, IPv6, tagged, or nothing for us.

use aya_ebpf::programs::XdpContext;
use pgha_common::family::{V4, V6};
use pgha_common::maps::{Director, director_flag};
use pgha_common::verdict::Reason;
use pgha_common::wire::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN,
    Ethernet, VlanTag,
};

use crate::verdict::Verdict;
use crate::{arp, director, frame, ip, neighbour};

/// Decides about one frame and, for an answer or a real server, rewrites it.
#[inline(always)]
pub(crate) fn steer(context: &mut XdpContext) -> Verdict {
    let Some(this) = director::this() else { return Reason::NotVip.into() };
    let Some(ethernet) = frame::at::<Ethernet>(context, 0) else { return Reason::Runt.into() };
    let (mut ethertype, mut at) = (ethernet.ethertype, size_of::<Ethernet>());
    if ethertype == ETHERTYPE_VLAN {
        if !this.has(director_flag::FORWARDS_TAGGED) {
            return Reason::Tagged.into();
        }
        let Some(tag) = frame::at::<VlanTag>(context, at) else { return Reason::Runt.into() };
        ethertype = tag.ethertype;
        at += size_of::<VlanTag>();
    }
    match ethertype {
        ETHERTYPE_IPV4 => ip::steer::<V4>(context, this, at),
        ETHERTYPE_IPV6 => match neighbour::steer(context, this, at) {
            Some(reason) => reason.into(),
            None => ipv6(context, this, at),
        },
        ETHERTYPE_ARP => arp::steer(context, this, at).into(),
        ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN if at > size_of::<Ethernet>() => {
            Reason::TwoTags.into()
        }
        _ => Reason::NotIp.into(),
    }
}

/// A function of its own to the kernel, too: IPv4 shares neither its stack nor its instructions.
#[inline(never)]
fn ipv6(context: &mut XdpContext, this: &Director, at: usize) -> Verdict {
    ip::steer::<V6>(context, this, at)
}
