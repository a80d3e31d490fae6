use proptest::prelude::*;
use zerocopy::FromZeros;

use super::{Flow, GENERATIONS, RealRef, Segment};
use crate::verdict::Reason;
use crate::wire::{Tcp, flag};

fn segment(flags: u8, acknowledgement: u32) -> Segment {
    let tcp = Tcp { flags, acknowledgement: acknowledgement.to_be_bytes(), ..Tcp::new_zeroed() };
    Segment::read(&tcp).unwrap()
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
        assert_eq!(Segment::read(&tcp), Err(reason), "{flags:#x}");
    }
}

#[test]
fn a_flow_is_answered_only_when_the_client_acknowledges_more_than_at_first() {
    let flow = Flow::new(REAL);
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
    let flow = Flow::new(REAL).after(segment(flag::ACK, u32::MAX));
    assert!(flow.is_answered(segment(flag::ACK, 5)));
    assert_eq!(flow.after(segment(flag::ACK, 5)).acknowledgement(), Some(5));
}

#[test]
fn a_syn_keeps_the_server_and_nothing_else() {
    let before = Flow::new(REAL).after(segment(flag::FIN | flag::ACK, 3_000_000_000));
    let flow = before.reopened();
    assert_eq!(flow, Flow::new(REAL));
    // Smaller than the last of the connection before.
    assert_eq!(flow.after(segment(flag::ACK, 1)).acknowledgement(), Some(1));
}

#[test]
fn closing_is_a_mark_that_the_next_segment_clears() {
    let flow = Flow::new(REAL).after(segment(flag::FIN | flag::ACK, 5));
    assert!(flow.is_closing());
    assert!(!flow.after(segment(flag::ACK, 6)).is_closing());
}

proptest! {
    #[test]
    fn no_segment_changes_the_real_server(
        id: u16,
        generation in 0..GENERATIONS,
        segments: Vec<(u8, u32)>,
    ) {
        let real = RealRef { id, generation };
        let mut flow = Flow::new(real);
        prop_assert_eq!(flow.acknowledgement(), None);
        for (flags, acknowledgement) in segments {
            let tcp = Tcp {
                flags,
                acknowledgement: acknowledgement.to_be_bytes(),
                ..Tcp::new_zeroed()
            };
            if let Ok(segment) = Segment::read(&tcp) {
                flow = flow.after(segment);
                prop_assert_eq!(flow.is_closing(), segment.closes);
            }
            prop_assert_eq!(flow.real(), real);
        }
    }

    #[test]
    fn old_acknowledgements_are_not_taken(last: u32, back in 1..=1u32 << 31) {
        let flow = Flow::new(REAL).after(segment(flag::ACK, last));
        let late = segment(flag::ACK, last.wrapping_sub(back));
        prop_assert_eq!(flow.after(late).acknowledgement(), Some(last));
    }
}
