//! The checks of a packet to a VIP, in the order of its headers.

use aya_ebpf::programs::XdpContext;
use pgha_common::family::Address;
use pgha_common::maps::{Director, FlowKey};
use pgha_common::verdict::Reason;
use pgha_common::wire::{Ethernet, PROTOCOL_TCP};

use crate::flows::FlowTables;
use crate::packet::{Carried, Packet};
use crate::tcp::Incoming;
use crate::verdict::Verdict;
use crate::{balance, director, frame, icmp, tcp};

/// Balances a segment to a VIP, sees to ICMP, and leaves alone what is for somebody else.
#[inline(always)]
pub(crate) fn steer<F: Packet + FlowTables>(
    context: &mut XdpContext,
    this: &Director,
    at: usize,
) -> Verdict {
    let Some(header) = frame::at::<F::Header>(context, at) else { return Reason::Runt.into() };
    let (client, vip) = (F::source(header), F::destination(header));
    if !this.may_be_vip(vip) {
        return Reason::NotVip.into();
    }
    let Some(ethernet) = frame::at::<Ethernet>(context, 0) else { return Reason::Runt.into() };
    let checked = if ethernet.destination != this.mac {
        Err(Reason::NotOurMac)
    } else if director::balanced_elsewhere(this, ethernet.source, client, F::hops(header)) {
        Err(Reason::OtherDirector)
    } else {
        check::<F>(context, this, at, header)
    };
    let done = checked.and_then(|carried| {
        if carried.protocol == F::ICMP {
            return if director::is_vip(vip) {
                Ok(icmp::steer::<F>(context, at, &carried, vip))
            } else {
                Err(Reason::NotVip)
            };
        }
        let (ports, segment) = tcp::read(context, &carried)?;
        let incoming = Incoming { key: FlowKey { client, vip, ports }, segment };
        Ok(balance::balance::<F>(context, at, &incoming))
    });
    match done {
        Ok(verdict) => verdict,
        // The filter that brought the packet here admits some others, and those are passed whatever they
        // look like.
        Err(reason) if director::is_vip(vip) => reason.into(),
        Err(_) => Reason::NotVip.into(),
    }
}

/// What the packet carries, when nothing is wrong with it.
#[inline(always)]
fn check<F: Packet>(
    context: &XdpContext,
    this: &Director,
    at: usize,
    header: &F::Header,
) -> Result<Carried, Reason> {
    if !F::is_valid(header) {
        return Err(Reason::BadIpHeader);
    }
    if at + F::length(header) > frame::length(context) {
        return Err(Reason::Truncated);
    }
    if F::is_fragment(header) {
        return Err(Reason::Fragment);
    }
    let carried = F::carried(context, at, header)?;
    if carried.protocol != PROTOCOL_TCP && carried.protocol != F::ICMP {
        return Err(Reason::NotTcp);
    }
    if F::hops(header) <= 1 {
        return Err(Reason::TtlExpired);
    }
    let client = F::source(header);
    if !client.is_of_a_host() {
        return Err(Reason::BadSource);
    }
    if this.may_be_vip(client) && director::is_vip(client) {
        return Err(Reason::FromVip);
    }
    Ok(carried)
}
