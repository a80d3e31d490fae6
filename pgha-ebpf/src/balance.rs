//! Which real server a segment goes to: the one its flow has, else the one its service picks.

use aya_ebpf::programs::XdpContext;
use pgha_common::flow::{Flow, RealRef};
use pgha_common::maps::ServiceKey;
use pgha_common::verdict::Reason;

use crate::flows::{self, Known};
use crate::reals;
use crate::tcp::Incoming;
use crate::{director, forward, reset, services};

/// Finds the real server and sends the segment there, or tells the client that there is none.
#[inline(always)]
pub(crate) fn balance(context: &mut XdpContext, incoming: &Incoming) -> Reason {
    match flows::find(&incoming.key, incoming.segment) {
        Some(known) => follow(context, incoming, &known),
        None => begin(context, incoming),
    }
}

/// A segment of a known flow stays with its real server for as long as that is not dead.
#[inline(always)]
fn follow(context: &mut XdpContext, incoming: &Incoming, known: &Known) -> Reason {
    let Some(real) = reals::of(known.flow().real()) else {
        if incoming.segment.opens {
            flows::forget(&incoming.key, known);
            return begin(context, incoming);
        }
        return reset::answer(context, incoming, Reason::DeadServer);
    };
    let reason = if incoming.segment.opens {
        known.reopen(incoming.segment);
        Reason::SynAgain
    } else if known.observe(&incoming.key, incoming.segment) {
        Reason::EstablishedFlow
    } else {
        Reason::PendingFlow
    };
    forward::forward(context, &real, reason)
}

/// A segment of an unknown flow goes where its service says, and is remembered as pending.
#[inline(always)]
fn begin(context: &mut XdpContext, incoming: &Incoming) -> Reason {
    let [_, _, high, low] = incoming.key.ports;
    let Some(service) = services::find(&ServiceKey::new(incoming.key.vip, [high, low])) else {
        return if director::is_vip(incoming.key.vip) { Reason::NoService } else { Reason::NotVip };
    };
    let segment = incoming.segment;
    let picked = if segment.opens && service.is_round_robin() {
        services::next(&service)
    } else {
        services::by_hash(&service, &incoming.key)
    };
    let Some(real) = picked.and_then(reals::available) else {
        return reset::answer(context, incoming, Reason::NoServer);
    };
    let reason = if segment.opens {
        real.count_flow();
        Reason::NewFlow
    } else if segment.resets {
        return forward::forward(context, &real, Reason::UnknownReset);
    } else {
        Reason::UnknownFlow
    };
    let real_ref = RealRef { id: real.id(), generation: real.generation() };
    flows::remember(&incoming.key, Flow::new(real_ref, segment));
    forward::forward(context, &real, reason)
}
