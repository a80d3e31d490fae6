use super::*;

const SEQUENCE: u32 = 1000;
const THEIRS: u32 = u32::MAX;

fn segment(flags: &str, sequence: u32, acknowledgement: u32, payload: &[u8]) -> Segment {
    let has = |flag| flags.contains(flag);
    let flags = Flags { syn: has('S'), ack: has('A'), fin: has('F'), rst: has('R') };
    Segment { flags, sequence, acknowledgement, payload: payload.to_vec() }
}

fn found(finding: ProbeFinding) -> Reaction {
    Reaction { send: None, found: Some(finding) }
}

/// One that asks four bytes.
fn asking() -> Exchange {
    Exchange::new(SEQUENCE, b"ask?".to_vec())
}

fn syn_ack() -> Segment {
    segment("SA", THEIRS, SEQUENCE + 1, b"")
}

/// One that has asked.
fn asked() -> Exchange {
    let mut exchange = asking();
    exchange.handle(&syn_ack());
    exchange
}

#[test]
fn a_half_open_connection_is_enough_to_know_that_somebody_listens() {
    let mut exchange = Exchange::new(SEQUENCE, Vec::new());
    assert_eq!(exchange.due(), Some(segment("S", SEQUENCE, 0, b"")));
    let reaction = exchange.handle(&syn_ack());
    let rst = segment("R", SEQUENCE + 1, 0, b"");
    assert_eq!(reaction, Reaction { send: Some(rst), found: Some(ProbeFinding::Open) });
    assert!(exchange.is_over());
    assert_eq!((exchange.due(), exchange.handle(&syn_ack())), (None, Reaction::default()));
}

#[test]
fn a_reset_says_that_nobody_listens() {
    for mut exchange in [Exchange::new(SEQUENCE, Vec::new()), asking()] {
        let rst = segment("RA", 0, SEQUENCE + 1, b"");
        assert_eq!(exchange.handle(&rst), found(ProbeFinding::Refused));
        assert!(exchange.is_over());
    }
}

#[test]
fn what_acknowledges_another_number_says_nothing() {
    for flags in ["SA", "RA", "A", "R", "S", "FA", ""] {
        for number in [0, SEQUENCE, SEQUENCE + 2, SEQUENCE.wrapping_neg()] {
            let mut exchange = asking();
            let reaction = exchange.handle(&segment(flags, THEIRS, number, b"R"));
            assert_eq!((reaction, exchange), (Reaction::default(), asking()), "{flags} {number}");
        }
    }
    // Nor does what acknowledges nothing, whatever stands in that field.
    let mut exchange = asking();
    assert_eq!(exchange.handle(&segment("R", 0, SEQUENCE + 1, b"")), Reaction::default());
    assert_eq!(exchange.handle(&segment("A", THEIRS, SEQUENCE + 1, b"")), Reaction::default());
    assert_eq!(exchange, asking());
}

#[test]
fn a_question_is_asked_answered_and_ended_on_both_sides() {
    let mut exchange = asking();
    // The server's numbers go past the highest.
    let question = segment("A", SEQUENCE + 1, 0, b"ask?");
    assert_eq!(exchange.handle(&syn_ack()).send, Some(question.clone()));
    assert_eq!(exchange.due(), Some(question.clone()));
    // It did not hear that.
    assert_eq!(exchange.handle(&syn_ack()).send, Some(question));
    assert_eq!(exchange.handle(&segment("A", 0, SEQUENCE + 5, b"")), Reaction::default());
    let fin = segment("FA", SEQUENCE + 5, 3, b"");
    let answered = exchange.handle(&segment("A", 0, SEQUENCE + 5, b"R.."));
    assert_eq!(answered, Reaction { send: Some(fin.clone()), found: Some(ProbeFinding::Open) });
    assert_eq!(exchange.due(), Some(fin));
    // A server that trusts the login goes on talking before it sees the end.
    let acknowledged = segment("A", SEQUENCE + 6, 5, b"");
    let more = exchange.handle(&segment("A", 3, SEQUENCE + 5, b"S."));
    assert_eq!(more, Reaction::send(acknowledged));
    let ended = exchange.handle(&segment("FA", 5, SEQUENCE + 6, b""));
    assert_eq!(ended, Reaction::send(segment("R", SEQUENCE + 6, 0, b"")));
    assert!(exchange.is_over());
}

#[test]
fn a_refusal_that_comes_with_the_end_is_heard() {
    let mut exchange = asked();
    let refusal = b"E\0\0\0\0C57P03\0Mstarting up\0\0";
    let reaction = exchange.handle(&segment("FA", 0, SEQUENCE + 5, refusal));
    let said = ProbeFinding::NotAccepting("starting up (SQLSTATE 57P03)".to_owned());
    assert_eq!(reaction.found, Some(said));
    assert!(exchange.is_over() && reaction.send.unwrap().flags.rst);
}

#[test]
fn who_ends_without_an_answer_gave_no_session() {
    for (flags, sends) in [("FA", true), ("R", false), ("RA", false)] {
        let mut exchange = asked();
        let reaction = exchange.handle(&segment(flags, 0, SEQUENCE + 5, b""));
        assert_eq!((reaction.found, reaction.send.is_some()), (Some(hung_up()), sends), "{flags}");
        assert!(exchange.is_over());
    }
    // What lies outside what is expected may be forged.
    let mut exchange = asked();
    assert_eq!(exchange.handle(&segment("R", 1, 0, b"")), Reaction::default());
    assert_eq!(exchange, asked());
}

#[test]
fn when_time_is_up_nothing_is_left_on_the_server() {
    let mut opening = asking();
    let rst = |sequence| Some(segment("R", sequence, 0, b""));
    let silent = Reaction { send: rst(SEQUENCE + 1), found: Some(ProbeFinding::Silent) };
    assert_eq!(opening.give_up(), silent);
    let mut waiting = asked();
    let reaction = waiting.give_up();
    assert_eq!(reaction.send, rst(SEQUENCE + 5));
    assert!(matches!(reaction.found, Some(ProbeFinding::Failing(_))));
    // It was told already.
    let mut ending = asked();
    ending.handle(&segment("A", 0, SEQUENCE + 5, b"R"));
    assert_eq!(ending.give_up(), Reaction { send: rst(SEQUENCE + 6), found: None });
    for mut exchange in [opening, waiting, ending] {
        assert!(exchange.is_over());
        assert_eq!(exchange.give_up(), Reaction::default());
    }
}

#[test]
fn who_knows_of_a_probe_that_is_over_is_told_that_it_is() {
    assert_eq!(stray(&segment("SA", 5, 77, b"")), Some(segment("R", 77, 0, b"")));
    assert_eq!(stray(&segment("A", 5, 77, b"x")), Some(segment("R", 77, 0, b"")));
    assert_eq!(stray(&segment("RA", 5, 77, b"")), None);
    assert_eq!(stray(&segment("S", 5, 0, b"")), None);
}
