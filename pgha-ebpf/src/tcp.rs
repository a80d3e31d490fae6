//! Whether an IPv4 packet is a TCP segment that a client may send to a VIP.

use aya_ebpf::programs::XdpContext;
use pgha_common::flow::Segment;
use pgha_common::maps::{Director, FlowKey};
use pgha_common::verdict::Reason;
use pgha_common::wire::{Ethernet, Ipv4, PROTOCOL_TCP, Tcp};

use crate::{balance, director, frame};

const IPV4_AT: usize = size_of::<Ethernet>();

/// What is known of a segment once it has passed every check.
pub(crate) struct Incoming {
    /// Its connection.
    pub(crate) key: FlowKey,
    /// What its header says.
    pub(crate) segment: Segment,
}

/// Checks an IPv4 packet in the order of its headers, and balances it when it is for a VIP.
#[inline(always)]
pub(crate) fn steer(context: &mut XdpContext, this: &Director) -> Reason {
    let Some(ipv4) = frame::at::<Ipv4>(context, IPV4_AT) else { return Reason::Runt };
    if !this.may_be_vip(ipv4.destination) {
        return Reason::NotVip;
    }
    let Some(ethernet) = frame::at::<Ethernet>(context, 0) else { return Reason::Runt };
    let checked = if ethernet.destination != this.mac {
        Err(Reason::NotOurMac)
    } else if director::balanced_elsewhere(this, ethernet.source, ipv4.source) {
        Err(Reason::OtherDirector)
    } else {
        check(context, this, ipv4)
    };
    match checked {
        Ok(incoming) => balance::balance(context, &incoming),
        Err(reason) => unless_not_vip(ipv4.destination, reason),
    }
}

/// `reason`, if the packet is for a VIP at all: the filter that brought it here admits some others,
/// and those are passed whatever they look like.
#[inline(always)]
fn unless_not_vip(destination: [u8; 4], reason: Reason) -> Reason {
    if director::is_vip(destination) { reason } else { Reason::NotVip }
}

/// The checks of a packet to a VIP, each with its reason.
#[inline(always)]
fn check(context: &XdpContext, this: &Director, ipv4: &Ipv4) -> Result<Incoming, Reason> {
    let ip_length = ipv4.header_length();
    if ipv4.version() != 4 || ip_length < size_of::<Ipv4>() {
        return Err(Reason::BadIpHeader);
    }
    let total_length = usize::from(u16::from_be_bytes(ipv4.total_length));
    if total_length < ip_length || IPV4_AT + total_length > frame::length(context) {
        return Err(Reason::Truncated);
    }
    if ipv4.is_fragment() {
        return Err(Reason::Fragment);
    }
    if ipv4.protocol != PROTOCOL_TCP {
        return Err(Reason::NotTcp);
    }
    if ipv4.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    if this.may_be_vip(ipv4.source) && director::is_vip(ipv4.source) {
        return Err(Reason::FromVip);
    }
    let Some(tcp) = frame::at::<Tcp>(context, IPV4_AT + ip_length) else {
        return Err(Reason::BadTcpHeader);
    };
    let headers = ip_length + tcp.header_length();
    if tcp.header_length() < size_of::<Tcp>() || headers > total_length {
        return Err(Reason::BadTcpHeader);
    }
    let key = FlowKey { client: ipv4.source, vip: ipv4.destination, ports: tcp.ports };
    let segment = Segment::read(tcp, (total_length - headers) as u32)?;
    Ok(Incoming { key, segment })
}
