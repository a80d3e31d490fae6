//! Counting the lease, and giving up in time.

use super::*;
use crate::failover::order::Refusal;
use crate::failover::record::{Ordered, Takeover};

/// `b` holds the lease of epoch 2 and has renewed it at [`NOW`], which was answered 50 ms later.
fn renewed() -> Play {
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    play.at(NOW).reads(&holder());
    play.ends(Outcome::Flushed(Lsn::new(150)));
    play.does(Event::Standbys([(name("c"), Lsn::new(150))].into()));
    assert_eq!(play.at(NOW + 50).done(), "arm 3000");
    play
}

/// `b` waits for the answer to the renewal that followed, sent 250 ms after [`NOW`].
fn renewing() -> Play {
    let mut play = renewed();
    assert_eq!(play.at(NOW + 249).does(Event::Tick), "tell");
    assert_eq!(play.at(NOW + 250).does(Event::Tick), "put renewal 2 of b run 20 at 150");
    play
}

/// The record after that renewal, by a process.
fn with_renewal(run: u64) -> Record {
    let first = holder().renew(&name("b"), RUN, Lsn::new(150)).unwrap();
    first.renew(&name("b"), run, Lsn::new(150)).unwrap()
}

#[test]
fn a_lease_counts_from_before_it_was_sent() {
    let mut play = renewing();
    assert_eq!(play.at(NOW + 590).done(), "arm 3250; put renewal 3 of b run 20 at 150; tell");
    // An answer that comes when PostgreSQL had to be ended is of no use.
    assert_eq!(play.at(NOW + 849).does(Event::Tick), "tell");
    assert_eq!(play.at(NOW + 850).does(Event::Tick), "kill");
}

#[test]
fn without_a_renewal_it_ends_itself_in_time_and_once() {
    let mut play = renewing();
    assert_eq!(play.at(NOW + 599).does(Event::Tick), "tell");
    assert_eq!(play.agent.poll_timeout(play.now), Some(START + Duration::from_millis(NOW + 600)));
    assert_eq!(play.at(NOW + 600).does(Event::Tick), "kill");
    assert_eq!(play.at(NOW + 601).does(Event::Tick), "");
    // Nothing else is done before it has worked, and it is tried again after a while.
    assert_eq!(play.at(NOW + 620).ends(Outcome::Failed), "");
    assert_eq!(play.at(NOW + 819).does(Event::Tick), "tell");
    assert_eq!(play.agent.poll_timeout(play.now), Some(START + Duration::from_millis(NOW + 820)));
    assert_eq!(play.at(NOW + 820).does(Event::Tick), "kill");
    assert_eq!(play.at(NOW + 840).ends(Outcome::Killed), "");
    assert_eq!(play.agent.role(), &Role::Down);
}

#[test]
fn a_renewal_that_came_through_after_all_starts_nothing_that_ended_since() {
    let mut play = renewing();
    assert_eq!(play.at(NOW + 600).does(Event::Tick), "kill; tell");
    play.at(NOW + 640).ends(Outcome::Killed);
    // The answer to a renewal of before the end is no right to start (S7).
    assert_eq!(play.at(NOW + 650).done(), "arm 3250; put renewal 3 of b run 20 at 150");
    assert_eq!(play.at(NOW + 660).done(), "arm 3650; restart with 1 of {c}");
}

#[test]
fn a_lost_answer_is_found_in_the_record() {
    let mut play = renewing();
    assert_eq!(
        play.at(NOW + 400).does(Event::Store(Answer::Written(Written::Unknown))),
        "ask a in 2, run 20, 1; ask c in 2, run 20, 1; tell"
    );
    assert_eq!(
        play.at(NOW + 500).does(Event::Tick),
        "ask a in 2, run 20, 2; ask c in 2, run 20, 2; tell; read"
    );
    assert_eq!(
        play.at(NOW + 510).reads(&with_renewal(RUN)),
        "arm 3250; put renewal 3 of b run 20 at 150"
    );
}

#[test]
fn the_renewal_of_another_process_is_not_taken_for_its_own() {
    let mut play = renewing();
    play.at(NOW + 260).does(Event::Store(Answer::Written(Written::Conflict)));
    assert_eq!(play.reads(&with_renewal(RUN - 1)), "put renewal 3 of b run 20 at 150");
    assert_eq!(play.at(NOW + 600).does(Event::Tick), "kill; tell");
}

#[test]
fn of_two_renewals_that_look_the_same_the_one_that_was_sent_first_counts() {
    let mut play = renewing();
    play.at(NOW + 260).does(Event::Store(Answer::Written(Written::Unknown)));
    assert_eq!(
        play.at(NOW + 360).does(Event::Tick),
        "ask a in 2, run 20, 2; ask c in 2, run 20, 2; tell; read"
    );
    // It is not there yet, and tried again. One of both comes through, and nobody knows which.
    let before = play.agent.record().unwrap().clone();
    assert_eq!(play.at(NOW + 370).reads(&before), "put renewal 2 of b run 20 at 150");
    assert_eq!(play.at(NOW + 380).hears_of(&with_renewal(RUN)), "arm 3250");
}

#[test]
fn of_two_renewals_that_look_the_same_the_answer_to_one_is_its_own() {
    let mut play = renewing();
    play.at(NOW + 260).does(Event::Store(Answer::Written(Written::Unknown)));
    play.at(NOW + 360).does(Event::Tick);
    let before = play.agent.record().unwrap().clone();
    play.at(NOW + 370).reads(&before);
    assert_eq!(play.at(NOW + 380).done(), "arm 3370");
}

#[test]
fn an_adopted_server_ends_with_the_gate_that_was_found_open() {
    let mut play = Play::begin(kept(2, None), primary(500, true));
    assert_eq!(play.effects(), "read");
    // The rest of the lease is for the gate alone, as with a renewal.
    assert_eq!(play.at(99).does(Event::Store(Answer::Read(None))), "");
    assert_eq!(play.at(100).does(Event::Tick), "kill");
}

#[test]
fn a_nominee_that_was_answered_too_late_promotes_nothing_before_it_has_renewed() {
    let mut play = Play::begin(kept(1, Some(1)), standby(None));
    play.effects();
    play.at(NOW).reads(&nominee());
    // The epoch is its own, and the lease of that write is over.
    assert_eq!(
        play.at(NOW + 600).done(),
        "keep epoch 2, freeze 1; put renewal 1 of b run 20 at 120; tell frozen 1 at 1:120"
    );
    assert_eq!(play.at(NOW + 605).ends(Outcome::Done), "");
    assert_eq!(play.at(NOW + 610).done(), "arm 3600; promote to 2 with 1 of {c}");
    assert_eq!(
        play.at(NOW + 700).ends(Outcome::Promoted(at(1, 118))),
        "put renewal 2 of b run 20 at 120, floor 1:118, term 2 of b: 2 from 1:118, promoted; tell"
    );
    assert_eq!(play.agent.role(), &Role::Primary);
}

#[test]
fn a_nominee_that_takes_nothing_says_why() {
    let mut play = Play::begin(kept(1, Some(1)), standby(None));
    play.effects();
    let rules = Rules::default();
    // It had more when it was nominated: its disk has lost something since.
    let further = stopped(&[("b", 130), ("c", 110)]);
    let nominated =
        suspended().nominate(name("b"), name("k1"), Proof::Quorum, &further, rules).unwrap();
    assert!(!play.at(NOW).reads(&nominated).contains("put"));
    assert_eq!(play.agent.refusal(), Some(Refusal::Shorter(name("b"))));
    play.at(NOW + 10).reads(&nominee());
    assert_eq!(play.agent.refusal(), None);
}

#[test]
fn a_freeze_is_undone_when_nobody_was_nominated_for_two_leases() {
    let mut play = renewed();
    let before = play.agent.record().unwrap().clone();
    let suspected = frozen(&before);
    assert_eq!(play.at(NOW + 100).hears_of(&suspected), "tell");
    for step in (250..2100).step_by(50) {
        let told = play.at(NOW + step).does(Event::Tick);
        assert!(!told.contains("thawed"), "{step}: {told}");
        if told.contains("put") {
            play.done();
        }
    }
    let told = play.at(NOW + 2100).does(Event::Tick);
    assert!(told.contains("put renewal 10 of b run 20 at 150, thawed"), "{told}");
}

#[test]
fn while_a_first_read_is_under_way_it_waits() {
    let mut play = Play::begin(kept(1, None), standby(None));
    assert_eq!(play.effects(), "read");
    assert_eq!(play.does(Event::Store(Answer::Read(None))), "");
    assert_eq!(play.at(100).does(Event::Tick), "read");
    assert_eq!(play.agent.poll_timeout(play.now), Some(START + Duration::from_millis(200)));
}

#[test]
fn a_primary_that_an_operator_relieves_ends_itself_and_gives_the_lease_back() {
    let ordered = |record: &Record| {
        let takeover = Takeover::To(name("c"));
        record.take_over(name("k1"), Ordered { takeover, by: "root".to_owned(), at: 7 }).unwrap()
    };
    let mut play = renewed();
    let relieved = ordered(&holder().renew(&name("b"), RUN, Lsn::new(150)).unwrap());
    // That is no fault: nobody turns it off for that.
    assert_eq!(play.at(NOW + 100).hears_of(&relieved), "kill; tell");
    assert!(!play.agent.told.as_ref().unwrap().1.fault);
    // It renews no more, and undoes nothing.
    assert_eq!(play.at(NOW + 300).reads(&relieved), "tell");
    assert_eq!(play.at(NOW + 310).ends(Outcome::Killed), "put released by b at 150");
    // A restarted agent goes on with it.
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    assert_eq!(play.at(NOW).reads(&relieved), "kill; tell");
    // One whose PostgreSQL is not there starts none.
    let mut play = Play::down(kept(2, None));
    assert_eq!(play.at(NOW).reads(&relieved), "put released by b at 150; tell");
    // One that took the epoch and was not promoted yet.
    let mut play = Play::begin(kept(1, Some(1)), standby(None));
    play.effects();
    assert_eq!(play.at(NOW).reads(&ordered(&taken())), "kill; tell frozen 1 at 1:120");
}

#[test]
fn a_restart_budget_is_counted_anew_where_a_controller_says_so() {
    let spent = |from: Option<&str>| {
        let mut play = Play::with_restarts(kept(2, None), primary(NOW + 500, true), 0);
        play.effects();
        play.at(NOW).reads(&holder());
        play.agent.failures = 2;
        play.agent.restarts = (1, 1);
        if let Some(from) = from {
            play.does(Event::Heard { from: name(from), message: Message::Clear });
        }
        (play.agent.restarts.0, play.agent.failures)
    };
    assert_eq!(spent(None), (1, 2));
    assert_eq!(spent(Some("k1")), (0, 0));
    // Another agent is nobody to say so.
    assert_eq!(spent(Some("c")), (1, 2));
}
