//! Carrying out what was decided about a segment to a VIP.

use aya_ebpf::programs::XdpContext;
use pgha_common::balance::{Alive, Decision, Known, decide};
use pgha_common::flow::Flow;
use pgha_common::verdict::{Action, Reason};

use crate::flows::{self, Entry, FlowTables};
use crate::tcp::Incoming;
use crate::verdict::Verdict;
use crate::world::Kernel;
use crate::{forward, reals, reset};

/// Sends the segment, in the packet at `at`, to its real server, or tells the client that there is none.
#[inline(always)]
pub(crate) fn balance<F: FlowTables>(
    context: &mut XdpContext,
    at: usize,
    incoming: &Incoming<F>,
) -> Verdict {
    let world = Kernel::<F>::new();
    match decide(&world, &incoming.key, incoming.segment) {
        Decision::Follow(known, real) => {
            let reason = follow(incoming, known);
            forward::forward(context, real, reason)
        }
        Decision::Begin(real, over) => {
            let reason = begin(incoming, real, over);
            forward::forward(context, real, reason)
        }
        Decision::Refuse(reason) if matches!(reason.action(), Action::Answer) => {
            reset::answer(context, at, incoming, reason).into()
        }
        Decision::Refuse(reason) => reason.into(),
    }
}

/// Notes what a segment says of its flow.
#[inline(always)]
fn follow<F: FlowTables>(incoming: &Incoming<F>, known: Known<Entry>) -> Reason {
    if incoming.segment.opens {
        flows::reopen(known, incoming.segment);
        Reason::SynAgain
    } else if flows::observe::<F>(known, &incoming.key, incoming.segment) {
        Reason::EstablishedFlow
    } else {
        Reason::PendingFlow
    }
}

/// Remembers the flow that a segment begins, or that began at another director.
#[inline(always)]
fn begin<F: FlowTables>(
    incoming: &Incoming<F>,
    real: Alive<'_>,
    over: Option<Known<Entry>>,
) -> Reason {
    if let Some(over) = over {
        flows::forget::<F>(&incoming.key, over);
    }
    let segment = incoming.segment;
    let reason = if segment.opens {
        reals::count_flow(real.id);
        Reason::NewFlow
    } else if segment.resets {
        return Reason::UnknownReset;
    } else {
        Reason::UnknownFlow
    };
    flows::remember::<F>(&incoming.key, Flow::new(real.reference(), segment), segment);
    reason
}
