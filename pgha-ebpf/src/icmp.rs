//! ICMP to a VIP: an echo is answered, and who reports an error with a server's packet is heard by that
//! server, because path MTU discovery depends on it (RFC 1191, RFC 8201).

use aya_ebpf::programs::XdpContext;
use pgha_common::balance::{find, of};
use pgha_common::checksum;
use pgha_common::flow::Segment;
use pgha_common::maps::FlowKey;
use pgha_common::verdict::Reason;
use pgha_common::wire::{Icmp, PROTOCOL_TCP};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::aligned::Aligned;
use crate::flows::FlowTables;
use crate::packet::{Carried, Packet};
use crate::verdict::Verdict;
use crate::world::Kernel;
use crate::{forward, frame};

/// As much of a TCP header as an error quotes at least (RFC 792).
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Quoted {
    ports: [u8; 4],
    sequence: [u8; 4],
}

/// Sees to a message to `vip`, in the packet at `at`.
#[inline(always)]
pub(crate) fn steer<F: Packet + FlowTables>(
    context: &mut XdpContext,
    at: usize,
    message: &Carried,
    vip: F::Address,
) -> Verdict {
    let Some(&icmp) = frame::at::<Icmp>(context, message.at) else { return Reason::BadIcmp.into() };
    if message.at + size_of::<Icmp>() > message.end {
        return Reason::BadIcmp.into();
    }
    if icmp.icmp_type == F::ECHO_REQUEST && icmp.code == 0 {
        let echoed = echo::<F>(context, at, message.at);
        return echoed.map_or(Reason::AnswerFailed, |()| Reason::EchoAnswered).into();
    }
    if F::is_error(icmp.icmp_type) {
        return error::<F>(context, message, vip);
    }
    Reason::IcmpOther.into()
}

/// Turns a request into its reply: what it carries stays.
#[inline(always)]
fn echo<F: Packet>(context: &mut XdpContext, at: usize, icmp_at: usize) -> Option<()> {
    frame::turn(context)?;
    F::turn(frame::at_mut::<F::Header>(context, at)?);
    let icmp = frame::at_mut::<Icmp>(context, icmp_at)?;
    icmp.icmp_type = F::ECHO_REPLY;
    icmp.checksum = checksum::updated(icmp.checksum, [F::ECHO_REQUEST, 0], [F::ECHO_REPLY, 0]);
    Some(())
}

/// Hands an error on to the real server whose packet it quotes, and to no other.
#[inline(always)]
fn error<F: Packet + FlowTables>(
    context: &mut XdpContext,
    message: &Carried,
    vip: F::Address,
) -> Verdict {
    let quote_at = message.at + size_of::<Icmp>();
    let transport_at = match quoted::<F>(context, quote_at, message.end) {
        Ok(transport_at) => transport_at,
        Err(reason) => return reason.into(),
    };
    let Some(transport) = frame::at::<Quoted>(context, transport_at) else {
        return Reason::ShortQuote.into();
    };
    let Some(header) = frame::at::<F::Header>(context, quote_at) else {
        return Reason::ShortQuote.into();
    };
    if F::source(header) != vip {
        return Reason::IcmpOther.into();
    }
    let [a, b, c, d] = transport.ports;
    let key = Aligned(FlowKey { client: F::destination(header), vip, ports: [c, d, a, b] });
    // As if the client had acknowledged everything before the quoted segment.
    let segment = Segment::acknowledging(u32::from_be_bytes(transport.sequence));
    let world = Kernel::<F>::new();
    let known = find(&world, &key, segment).map(|known| known.entry().flow);
    match known.and_then(|flow| of(&world, flow.real())) {
        Some(real) => forward::forward(context, real, Reason::IcmpError),
        None => Reason::IcmpOther.into(),
    }
}

/// Where in the frame the segment begins that the packet quoted at `at` carries; the message ends at `end`.
#[inline(always)]
fn quoted<F: Packet>(context: &XdpContext, at: usize, end: usize) -> Result<usize, Reason> {
    let header = frame::at::<F::Header>(context, at).ok_or(Reason::ShortQuote)?;
    if at + size_of::<F::Header>() > end {
        return Err(Reason::ShortQuote);
    }
    if !F::is_valid(header) {
        return Err(Reason::IcmpOther);
    }
    // A later fragment has no ports; what cannot be followed to its end is no segment of a server.
    let inner = F::carried(context, at, header).map_err(|_| Reason::IcmpOther)?;
    if inner.at + size_of::<Quoted>() > end {
        return Err(Reason::ShortQuote);
    }
    if inner.protocol == PROTOCOL_TCP { Ok(inner.at) } else { Err(Reason::IcmpOther) }
}
