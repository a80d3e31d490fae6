use proptest::prelude::*;
use zerocopy::FromZeros;

use super::{Flow, GENERATIONS, IDS, RealRef, Segment, Tick};
use crate::verdict::Reason;
use crate::wire::{Tcp, flag};

fn segment(flags: u8, acknowledgement: u32) -> Segment {
    let tcp = Tcp { flags, acknowledgement: acknowledgement.to_be_bytes(), ..Tcp::new_zeroed() };
    Segment::read(&tcp, 0).unwrap()
}

fn data(acknowledgement: u32) -> Segment {
    Segment { data_length: 10, ..segment(flag::ACK | flag::PSH, acknowledgement) }
}

/// The SYN that opens every flow here.
fn syn() -> Segment {
    segment(flag::SYN, 0)
}

const REAL: RealRef = RealRef { id: 7, generation: 3 };

#[test]
fn flags_no_client_sends_are_refused_each_with_its_reason() {
    for (flags, reason) in [
        (0, Reason::NoFlags),
        (0xc0, Reason::NoFlags),
        (flag::ALL, Reason::AllFlags),
        (flag::SYN | flag::FIN, Reason::SynFin),
        (flag::SYN | flag::RST, Reason::SynFin),
        (flag::SYN | flag::FIN | flag::ACK, Reason::SynFin),
        (flag::SYN | flag::ACK, Reason::SynAck),
    ] {
        let tcp = Tcp { flags, ..Tcp::new_zeroed() };
        assert_eq!(Segment::read(&tcp, 0), Err(reason), "{flags:#x}");
    }
}

#[test]
fn a_flow_is_answered_only_when_the_client_acknowledges_more_than_at_first() {
    let flow = Flow::new(REAL, syn());
    let first = segment(flag::ACK, 1000);
    assert!(!flow.is_answered(first));
    let flow = flow.after(first);
    assert_eq!(flow.acknowledgement(), Some(1000));
    assert!(!flow.is_answered(first), "the same again");
    assert!(!flow.is_answered(segment(flag::ACK, 999)), "older");
    assert!(!flow.is_answered(segment(flag::ACK | flag::RST, 1001)), "a RST proves nothing");
    assert!(flow.is_answered(segment(flag::ACK, 1001)));
}

#[test]
fn acknowledgements_wrap() {
    let flow = Flow::new(REAL, syn()).after(segment(flag::ACK, u32::MAX));
    assert!(flow.is_answered(segment(flag::ACK, 5)));
    assert_eq!(flow.after(segment(flag::ACK, 5)).acknowledgement(), Some(5));
}

#[test]
fn a_syn_keeps_the_server_and_nothing_else() {
    let before = Flow::new(REAL, syn()).after(segment(flag::FIN | flag::ACK, 3_000_000_000));
    let flow = before.reopened(syn());
    assert_eq!(flow, Flow::new(REAL, syn()));
    // Smaller than the last of the connection before.
    assert_eq!(flow.after(segment(flag::ACK, 1)).acknowledgement(), Some(1));
}

#[test]
fn a_flow_closes_by_fin_and_by_reset_and_stays_closed_by_its_last_acknowledgement() {
    let open = Flow::new(REAL, syn()).after(segment(flag::ACK, 5));
    assert!(!open.is_closing());
    for close in [segment(flag::FIN | flag::ACK, 5), segment(flag::RST, 0)] {
        let closing = open.after(close);
        assert!(closing.is_closing());
        // The server's FIN is acknowledged; that is the end, not a sign of life.
        assert!(closing.after(segment(flag::ACK, 6)).is_closing());
    }
}

#[test]
fn a_forged_close_is_forgotten_when_the_flow_goes_on() {
    let forged = Flow::new(REAL, syn()).after(segment(flag::ACK, 5)).after(segment(flag::RST, 0));
    assert!(!forged.after(data(5)).is_closing(), "the client sends");
    assert!(!forged.after(segment(flag::ACK, 105)).is_closing(), "the server sends");
}

#[test]
fn a_flow_claims_what_follows_its_syn_and_then_what_follows_its_acknowledgement() {
    let syn = Segment { sequence: u32::MAX, ..syn() };
    let ack =
        |sequence, acknowledgement| Segment { sequence, ..segment(flag::ACK, acknowledgement) };
    let flow = Flow::new(REAL, syn);
    assert!(flow.claims(ack(0, 7)), "the client's first acknowledgement");
    assert!(!flow.claims(ack(1_000_000, 7)), "another connection");
    let flow = flow.after(ack(0, u32::MAX));
    assert!(flow.claims(ack(5_000_000, 65_000)), "the server sent 64 KiB");
    assert!(!flow.claims(ack(0, 100_000_000)));
    assert!(!flow.claims(segment(flag::RST, u32::MAX)), "a RST without an acknowledgement");
}

#[test]
fn a_forged_end_leaves_the_last_acknowledgement_alone() {
    let flow = Flow::new(REAL, segment(flag::ACK, 100));
    for flags in [flag::FIN | flag::ACK, flag::RST | flag::ACK] {
        let after = flow.after(segment(flags, 1_000_000_000));
        assert_eq!((after.acknowledgement(), after.is_closing()), (Some(100), true));
    }
    // The client's own acknowledges what came last: what follows is the end of the server, and no more.
    let after = flow.after(segment(flag::FIN | flag::ACK, 5000));
    assert_eq!(after.acknowledgement(), Some(5000));
    assert!(after.after(segment(flag::ACK, 5001)).is_closing());
}

#[test]
fn acknowledgements_far_apart_are_no_answer() {
    let flow = Flow::new(REAL, segment(flag::ACK, 100));
    assert!(flow.is_answered(segment(flag::ACK, 101)));
    assert!(!flow.is_answered(segment(flag::ACK, 100)));
    assert!(!flow.is_answered(segment(flag::ACK, 1_000_000_000)));
    assert!(!flow.is_answered(segment(flag::ACK | flag::FIN, 101)));
}

#[test]
fn a_flow_says_for_how_long_it_has_been_closing() {
    let tick = |number: u64| Tick::at(number << 36);
    let flow = Flow::new(REAL, segment(flag::ACK, 100));
    assert_eq!(flow.closing_for(tick(5)), 0);
    let closing = flow.after(segment(flag::RST, 0)).closing_since(tick(14));
    assert_eq!(closing.closing_for(tick(14)), 0);
    assert_eq!(closing.closing_for(tick(17)), 3);
    assert_eq!((closing.real(), closing.acknowledgement()), (REAL, Some(100)));
}

proptest! {
    #[test]
    fn no_segment_changes_the_real_server(
        id in 0..IDS as u16,
        generation in 0..GENERATIONS,
        segments: Vec<(u8, u32)>,
    ) {
        let real = RealRef { id, generation };
        let mut flow = Flow::new(real, syn());
        prop_assert_eq!(flow.acknowledgement(), None);
        for (flags, acknowledgement) in segments {
            let tcp = Tcp {
                flags,
                acknowledgement: acknowledgement.to_be_bytes(),
                ..Tcp::new_zeroed()
            };
            if let Ok(segment) = Segment::read(&tcp, 0) {
                flow = flow.after(segment);
                prop_assert!(!segment.closes || flow.is_closing());
            }
            prop_assert_eq!(flow.real(), real);
        }
    }

    #[test]
    fn old_acknowledgements_are_not_taken(last: u32, back in 1..=1u32 << 31) {
        let flow = Flow::new(REAL, syn()).after(segment(flag::ACK, last));
        let late = segment(flag::ACK, last.wrapping_sub(back));
        prop_assert_eq!(flow.after(late).acknowledgement(), Some(last));
    }
}
