//! Going on without the store (S8): who asks, and who grants what.

use super::*;
use crate::failover::fixture::member;

/// `b` holds the lease of epoch 2, and has renewed it at [`NOW`].
fn holding(record: &Record) -> Play {
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    play.at(NOW).reads(record);
    play.ends(Outcome::Flushed(Lsn::new(150)));
    play.done();
    play
}

/// The store does not answer the next renewal, so that it asks for the first time 300 ms after [`NOW`].
fn asking(record: &Record) -> (Play, String) {
    let mut play = holding(record);
    let told = play.at(NOW + 250).does(Event::Tick);
    assert_eq!(told, "put renewal 2 of b run 20 at 150; tell");
    let told = play.at(NOW + 300).does(Event::Store(Answer::Written(Written::Failed)));
    (play, told)
}

const fn grant(epoch: u64, run: u64, number: u64) -> Message {
    Message::Grant { epoch: Epoch::new(epoch), run, number }
}

#[test]
fn with_all_grants_the_lease_counts_from_the_question() {
    let (mut play, told) = asking(&holder());
    assert_eq!(told, "ask a in 2, run 20, 1; ask c in 2, run 20, 1");
    assert_eq!(play.at(NOW + 320).hears("a", grant(2, RUN, 1)), "");
    assert_eq!(play.at(NOW + 330).hears("a", grant(2, RUN, 1)), "");
    assert_eq!(play.at(NOW + 340).hears("c", grant(2, RUN, 1)), "arm 3300; tell in failsafe");
    // It asks again and again, and with the grants goes on and on.
    let again = play.at(NOW + 400).does(Event::Tick);
    assert_eq!(again, "ask a in 2, run 20, 2; ask c in 2, run 20, 2; read");
    assert_eq!(
        play.at(NOW + 899).does(Event::Store(Answer::Read(None))),
        "ask a in 2, run 20, 3; ask c in 2, run 20, 3; tell in failsafe"
    );
    assert_eq!(play.hears("a", grant(2, RUN, 3)), "");
    assert_eq!(play.hears("c", grant(2, RUN, 3)), "arm 3899");
    assert_eq!(play.agent.role(), &Role::Primary);
}

#[test]
fn with_one_grant_missing_it_ends_itself_in_time() {
    let (mut play, _) = asking(&holder());
    for (question, asked) in [(1, 300), (2, 400), (3, 500)] {
        let told = play.at(NOW + asked).does(Event::Tick);
        let again = format!("ask a in 2, run 20, {question}; ask c in 2, run 20, {question}");
        assert!(question == 1 || told.starts_with(&again), "{told}");
        let told = play.at(NOW + asked + 50).hears("a", grant(2, RUN, question));
        assert!(!told.contains("arm"), "{told}");
    }
    let told = play.at(NOW + 599).does(Event::Tick);
    assert!(!told.contains("kill"), "{told}");
    let told = play.at(NOW + 600).does(Event::Tick);
    assert!(told.starts_with("kill"), "{told}");
    assert!(!told.contains("ask"), "{told}");
    assert!(!play.at(NOW + 720).does(Event::Tick).contains("ask"), "it asks for nothing any more");
}

#[test]
fn grants_to_another_question_process_or_epoch_do_not_count() {
    let (mut play, _) = asking(&holder());
    play.at(NOW + 310).hears("a", grant(2, RUN, 1));
    for other in [grant(2, RUN, 0), grant(2, RUN, 2), grant(2, RUN - 1, 1), grant(1, RUN, 1)] {
        assert_eq!(play.hears("c", other), "");
    }
    // Nor those of somebody else.
    assert_eq!(play.hears("k1", grant(2, RUN, 1)), "");
    assert_eq!(play.hears("c", grant(2, RUN, 1)), "arm 3300; tell in failsafe");
}

#[test]
fn grants_that_come_when_it_has_given_up_open_nothing() {
    let (mut play, _) = asking(&holder());
    play.at(NOW + 310).hears("a", grant(2, RUN, 1));
    assert!(play.at(NOW + 600).does(Event::Tick).starts_with("kill"));
    assert_eq!(play.hears("c", grant(2, RUN, 1)), "");
}

#[test]
fn who_is_only_being_confirmed_is_asked_too() {
    let joined = holder().join(name("d"), &member(false, 0)).unwrap();
    let (mut play, told) = asking(&joined);
    assert_eq!(told, "ask a in 2, run 20, 1; ask c in 2, run 20, 1; ask d in 2, run 20, 1");
    play.at(NOW + 310).hears("a", grant(2, RUN, 1));
    assert_eq!(play.hears("c", grant(2, RUN, 1)), "");
    assert_eq!(play.hears("d", grant(2, RUN, 1)), "arm 3300; tell in failsafe");
}

#[test]
fn while_the_store_answers_nobody_is_asked() {
    let mut play = holding(&holder());
    play.at(NOW + 250).does(Event::Tick);
    let told = play.at(NOW + 300).does(Event::Store(Answer::Written(Written::Conflict)));
    assert_eq!(told, "read");
}

/// `b` streams from `a`, has read a record, and cannot reach the store any more.
fn member_of(kept: Kept, found: Found, record: &Record) -> Play {
    let mut play = Play::begin(kept, found);
    play.effects();
    play.at(NOW).reads(record);
    play.at(NOW + 250).does(Event::Tick);
    play.at(NOW + 260).does(Event::Store(Answer::Read(None)));
    play
}

const fn ask(epoch: u64) -> Message {
    Message::Ask { epoch: Epoch::new(epoch), run: 7, number: 4 }
}

const GRANTED: &str = "grant a in 1, run 7, 4";

#[test]
fn a_member_grants_what_it_can_promise() {
    let streams = || standby(Some("a"));
    let running = cluster(SYNC);
    assert_eq!(member_of(kept(1, None), streams(), &running).hears("a", ask(1)), GRANTED);
    // Also one where nothing runs: it stops no receiver, and freezes nothing.
    assert_eq!(member_of(kept(1, None), Found::Nothing, &running).hears("a", ask(1)), GRANTED);

    let refuses = |mut play: Play, from, epoch| {
        let told = play.hears(from, ask(epoch));
        assert!(!told.contains("grant"), "{told}");
    };
    // The store answers.
    let mut reaches = Play::begin(kept(1, None), streams());
    reaches.at(NOW).reads(&running);
    refuses(reaches, "a", 1);
    // It has read no record.
    let mut unread = Play::begin(kept(1, None), streams());
    unread.at(NOW).does(Event::Store(Answer::Read(None)));
    refuses(unread, "a", 1);
    // Frozen, by the record or by what is on disk; nominated.
    refuses(member_of(kept(1, None), streams(), &suspended()), "a", 1);
    refuses(member_of(kept(1, Some(1)), standby(None), &suspended()), "a", 1);
    let thawed = suspended().thaw().unwrap();
    refuses(member_of(kept(1, Some(1)), standby(None), &thawed), "a", 1);
    refuses(member_of(kept(1, None), streams(), &nominee()), "a", 1);
    // It knows of a higher epoch, by the record or by what is on disk.
    refuses(member_of(kept(2, None), streams(), &holder()), "a", 1);
    refuses(member_of(kept(2, None), streams(), &running), "a", 1);
    // Who asks holds nothing.
    refuses(member_of(kept(1, None), streams(), &running), "c", 1);
    let released = running.release(&name("a")).unwrap();
    refuses(member_of(kept(1, None), streams(), &released), "a", 1);
}

#[test]
fn a_member_that_could_not_keep_its_promise_after_a_crash_grants_nothing() {
    // The first that it does is to write to disk how long a promise binds.
    let mut play = member_of(Kept::default(), standby(Some("a")), &cluster(SYNC));
    assert_eq!(play.number, 1);
    assert!(!play.hears("a", ask(1)).contains("grant"));
    play.ends(Outcome::Done);
    assert_eq!(play.hears("a", ask(1)), GRANTED);
}

#[test]
fn a_refused_question_makes_it_read() {
    let mut reaches = Play::begin(kept(1, None), standby(Some("a")));
    reaches.at(NOW).reads(&cluster(SYNC));
    assert_eq!(reaches.hears("a", ask(1)), "read");
}

#[test]
fn a_promise_binds() {
    let mut play = member_of(kept(1, None), standby(Some("a")), &cluster(SYNC));
    assert_eq!(play.at(NOW + 300).hears("a", ask(1)), GRANTED);
    // The store is back with a freeze: no receiver is stopped before the promise has ended.
    assert_eq!(play.at(NOW + 400).hears_of(&suspended()), "tell; read");
    let reading = play.reading(&suspended());
    play.does(Event::Store(Answer::Read(Some(reading))));
    for step in (400..1360).step_by(40) {
        let told = play.at(NOW + step).does(Event::Tick);
        assert!(!told.contains("keep") && !told.contains("stop"), "{step}: {told}");
        if told.contains("read") {
            let reading = play.reading(&suspended());
            play.does(Event::Store(Answer::Read(Some(reading))));
        }
    }
    play.at(NOW + 1359);
    assert!(play.agent.has_promised(play.now));
    let told = play.at(NOW + 1360).does(Event::Tick);
    assert!(told.starts_with("keep epoch 1, freeze 1"), "{told}");
}

#[test]
fn a_promise_binds_after_a_restart_too() {
    // Whatever was promised before is not known: as if it were promised now.
    let mut frozen = Play::begin(kept(1, Some(1)), standby(None));
    assert_eq!(frozen.effects(), "read");
    assert_eq!(frozen.at(500).reads(&nominee()), "tell frozen 1 at 1:120");
    assert!(!frozen.at(1059).does(Event::Tick).contains("put"));
    let told = frozen.at(1060).does(Event::Tick);
    assert!(told.is_empty(), "{told}");
}
