//! Neighbour discovery for the VIPs, answered by the active director only (RFC 4861).

use aya_ebpf::programs::XdpContext;
use pgha_common::checksum::{self, Sum};
use pgha_common::family::{Family, V6};
use pgha_common::maps::Director;
use pgha_common::neighbour::{
    ALL_NODES_MAC, Advertisement, Discovery, HOP_LIMIT, UNSPECIFIED, advertise,
};
use pgha_common::verdict::Reason;
use pgha_common::wire::{Ethernet, Ipv6, PROTOCOL_ICMPV6};

use crate::aligned::Aligned;
use crate::{director, frame};

/// First byte of the address of a group (RFC 4291, section 2.7).
const GROUP: u8 = 0xff;
/// Length in bytes of the longest message that is looked at: with five options of the shortest kind.
const LONGEST: usize = 64;

/// Answers a solicitation for a VIP in place; `None` for whatever is no neighbour discovery. A function of its
/// own to the kernel, too, because of its stack.
#[inline(never)]
pub(crate) fn steer(context: &mut XdpContext, this: &Director, at: usize) -> Option<Reason> {
    let header = frame::at::<Ipv6>(context, at)?;
    if header.next_header != PROTOCOL_ICMPV6 {
        return None;
    }
    let message = frame::at::<Discovery>(context, at + size_of::<Ipv6>())?;
    let asks = message.icmp.icmp_type == Discovery::SOLICITATION;
    if !asks && message.icmp.icmp_type != Discovery::ADVERTISEMENT {
        return None;
    }
    let (target, sender) = (message.target, header.source);
    let length = usize::from(u16::from_be_bytes(header.payload_length));
    let to_group = header.destination[0] == GROUP;
    let is_valid = header.version() == 6
        && header.hop_limit == HOP_LIMIT
        && message.icmp.code == 0
        && (!asks || to_group || (header.destination == target && sender != UNSPECIFIED))
        && sums_up(context, at, header, length);
    let from = frame::at::<Ethernet>(context, 0)?.source;
    // What this director announced itself comes back where a network has a loop: no answer to that.
    if !is_valid || from == this.mac {
        return Some(Reason::NeighbourOther);
    }
    if this.may_be_vip(sender) && director::is_vip(sender) {
        return Some(Reason::NeighbourClaim);
    }
    if !this.may_be_vip(target) || !director::is_vip(target) {
        return Some(Reason::NeighbourOther);
    }
    if !asks {
        return Some(Reason::NeighbourClaim);
    }
    if !frame::is_for(context, this.mac) {
        return Some(Reason::NotOurMac);
    }
    if !director::is_active(this) {
        return Some(Reason::NeighbourInactive);
    }
    let to = if sender == UNSPECIFIED { ALL_NODES_MAC } else { from };
    Some(answer(context, at, to, this.mac, &Aligned(advertise(target, this.mac, sender))))
}

/// Whether the message, of that length, is there and has the checksum of its bytes (RFC 4861, section 7.1).
#[inline(always)]
fn sums_up(context: &XdpContext, at: usize, header: &Ipv6, length: usize) -> bool {
    // Options come in units of eight bytes.
    if length < size_of::<Discovery>() || length > LONGEST || !length.is_multiple_of(8) {
        return false;
    }
    let pseudo =
        V6::pseudo_header(header.source, header.destination, PROTOCOL_ICMPV6, length as u16);
    let words = sum_of(context, at + size_of::<Ipv6>(), length);
    words.is_some_and(|words| checksum::finish(pseudo + words) == [0, 0])
}

/// The sum of `length` bytes, at most [`LONGEST`]. A function of its own to the kernel, too: the stack of the
/// program has no room for what the compiler makes of the loop there.
#[inline(never)]
fn sum_of(context: &XdpContext, at: usize, length: usize) -> Option<Sum> {
    let mut sum = 0;
    for offset in (0..LONGEST).step_by(2) {
        if offset >= length {
            break;
        }
        sum += checksum::word(*frame::at::<[u8; 2]>(context, at + offset)?);
    }
    Some(sum)
}

/// Turns the frame into the advertisement. A solicitation without options is shorter.
#[inline(always)]
fn answer(
    context: &mut XdpContext,
    at: usize,
    to: [u8; 6],
    from: [u8; 6],
    advertisement: &Aligned<Advertisement>,
) -> Reason {
    let done = frame::resize(context, at + size_of::<Advertisement>()).and_then(|()| {
        frame::address(context, to, from)?;
        *frame::at_mut::<Advertisement>(context, at)? = **advertisement;
        Some(())
    });
    if done.is_some() { Reason::NeighbourAnswered } else { Reason::AnswerFailed }
}
