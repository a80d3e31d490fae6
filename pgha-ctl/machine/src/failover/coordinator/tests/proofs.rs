//! What proves that the primary can acknowledge nothing more, and what voids it.

use super::*;
use crate::failover::fixture::{STRICT, at, set};
use crate::failover::voters::{VoterSet, Voters};

fn with_sets(sets: Vec<VoterSet>) -> Record {
    Record { voters: Voters { sets, floor: at(1, FLOOR) }, ..frozen(&cluster(SYNC)) }
}

/// Frozen, with a primary that may acknowledge alone.
fn open() -> Record {
    with_sets(vec![VoterSet::empty()])
}

#[test]
fn a_release_is_a_proof() {
    let released = cluster(SYNC).release(&name("a")).unwrap();
    let mut play = Play::watching(&released);
    // Which lets nobody choose before enough voters are frozen.
    assert_eq!(play.hears_frozen("b", &wal(120)), "");
    let told = play.hears_frozen("c", &wal(110));
    assert_eq!(told, "put b nominated by k1: Released, voters c");
}

#[test]
fn frozen_voters_are_a_proof() {
    let mut play = Play::watching(&frozen(&cluster(SYNC)));
    assert_eq!(play.at(10).hears_frozen("b", &wal(120)), "");
    let told = play.at(20).hears_frozen("c", &wal(120));
    assert_eq!(told, "put b nominated by k1: Quorum, voters c");
    // Of each set.
    let mut play = Play::watching(&with_sets(vec![set(&["b", "c"], 2), set(&["b"], 1)]));
    assert_eq!(play.at(10).hears_frozen("c", &wal(120)), "");
    let told = play.at(20).hears_frozen("b", &wal(110));
    assert_eq!(told, "put c nominated by k1: Quorum, voters b");
}

#[test]
fn frozen_voters_are_no_proof_for_another_freeze_or_without_their_log() {
    let thawed = frozen(&cluster(SYNC)).thaw().unwrap();
    let mut play = Play::watching(&frozen(&thawed));
    let at = |freeze, wal| Report { frozen: Some(FrozenAt { freeze, wal }), ..Report::default() };
    assert_eq!(play.at(10).hears("c", at(2, Some(wal(120)))), "");
    assert_eq!(play.hears("b", at(1, Some(wal(120)))), "");
    assert_eq!(play.hears("b", at(3, Some(wal(120)))), "");
    assert_eq!(play.hears("b", at(2, None)), "");
    let told = play.hears("b", at(2, Some(wal(130))));
    assert_eq!(told, "put b nominated by k1: Quorum, voters c");
}

#[test]
fn frozen_voters_are_no_proof_where_the_record_says_so_or_nobody_is_waited_for() {
    let doubts = [Doubt::Lowered("somebody".to_owned())].into();
    let doubtful = Record { doubts, ..frozen(&cluster(SYNC)) };
    let may_be_open = with_sets(vec![set(&["b", "c"], 1), VoterSet::empty()]);
    for record in [doubtful, may_be_open, open()] {
        let mut play = Play::watching(&record);
        assert_eq!(play.at(10).hears_frozen("b", &wal(120)), "");
        assert_eq!(play.at(20).hears_frozen("c", &wal(110)), "");
        // It takes the lease.
        let (b, c) = (play.stopped(&wal(120)), play.stopped(&wal(110)));
        assert_eq!(play.waits(1059, &[("b", &b), ("c", &c)]), "");
        let told = play.at(1060).does(Event::Tick);
        assert_eq!(told, "put b nominated by k1: Lease, voters c");
    }
}

#[test]
fn a_node_that_is_off_is_a_proof_until_it_has_renewed() {
    let last = |renewal| (Epoch::new(1), renewal);
    let off = |node, renewal| Event::TurnedOff { node: name(node), renewal, off: true };
    let mut play = Play::watching(&open());
    play.hears_frozen("b", &wal(120));
    let b = play.stopped(&wal(120));
    assert_eq!(play.waits(310, &[("b", &b)]), "");
    // Another node, another epoch, and another renewal: it may have been turned on again since.
    assert_eq!(play.does(off("c", last(2))), "");
    assert_eq!(play.does(off("a", (Epoch::new(0), 2))), "");
    assert_eq!(play.does(off("a", last(1))), "");
    assert_eq!(play.does(off("a", last(2))), "put b nominated by k1: Power, voters ");
    let mut play = Play::watching(&open());
    play.does(off("a", last(2)));
    play.at(10).hears_of(&renewed(&open()));
    assert_eq!(play.hears_frozen("b", &wal(120)), "");
}

#[test]
fn an_expired_lease_is_a_proof_and_a_renewal_voids_it() {
    let mut play = Play::watching(&open());
    play.hears_frozen("b", &wal(120));
    let b = play.stopped(&wal(120));
    assert_eq!(play.waits(1059, &[("b", &b)]), "");
    // Also one that comes after the freeze.
    assert_eq!(play.hears_of(&renewed(&open())), "");
    assert_eq!(play.waits(2118, &[("b", &b)]), "");
    let told = play.at(2119).does(Event::Tick);
    assert_eq!(told, "put b nominated by k1: Lease, voters ");
}

#[test]
fn an_expired_lease_counts_anew_after_the_store_was_lost() {
    let mut play = Play::watching(&open());
    play.hears_frozen("b", &wal(120));
    let b = play.stopped(&wal(120));
    assert_eq!(play.waits(900, &[]), "");
    play.does(Event::Store(Answer::Read(None)));
    assert_eq!(play.at(1000).reads(&open()), "");
    assert_eq!(play.waits(2059, &[("b", &b)]), "");
    let told = play.at(2060).does(Event::Tick);
    assert_eq!(told, "put b nominated by k1: Lease, voters ");
}

#[test]
fn a_proof_without_a_candidate_nominates_nobody_and_says_why() {
    let record = Record { mode: STRICT, ..frozen(&cluster(STRICT)) };
    let mut play = Play::watching(&record);
    play.hears_frozen("b", &wal(120));
    assert_eq!(play.waits(3000, &[]), "");
    assert_eq!(
        play.coordinator.why_not(),
        Some(NoCandidate::TooFewVoters { have: 1, needed: 2, of: 2 })
    );
    assert_eq!(Play::watching(&cluster(SYNC)).coordinator.why_not(), None);
}

#[test]
fn a_candidate_that_another_is_ahead_of_streams_first() {
    let mut record = frozen(&cluster(SYNC));
    record.members.get_mut(&name("b")).unwrap().nofailover = true;
    let mut play = Play::watching(&record);
    play.hears_frozen("b", &wal(130));
    let told = play.at(10).hears_frozen("c", &wal(120));
    assert_eq!(told, "c catches up from b in freeze 1");
    let told = play.at(20).hears_frozen("c", &wal(130));
    assert_eq!(told, "put c nominated by k1: Quorum, voters b");
}

#[test]
fn a_suspected_node_with_a_device_is_turned_off_once_for_each_renewal() {
    let record = frozen(&cluster(SYNC));
    let mut play = Play::with_devices(&record, &["a"]);
    assert_eq!(play.waits(1059, &[]), "");
    assert_eq!(play.waits(1500, &[]), "turn off a after 1.2");
    let renewal = (Epoch::new(1), 2);
    play.does(Event::TurnedOff { node: name("a"), renewal, off: true });
    assert_eq!(play.hears_of(&renewed(&record)), "");
    // It came back, and is not suspected for that.
    assert_eq!(play.waits(2550, &[]), "");
    assert_eq!(play.waits(2600, &[]), "turn off a after 1.3");
    assert_eq!(Play::with_devices(&record, &["b"]).waits(1500, &[]), "");
}

#[test]
fn a_device_that_fails_is_asked_again_after_a_while_and_proves_nothing() {
    let mut play = Play::with_devices(&frozen(&cluster(SYNC)), &["a"]);
    assert_eq!(play.waits(1100, &[]), "turn off a after 1.2");
    // One question at a time.
    assert_eq!(play.waits(3000, &[]), "");
    let renewal = (Epoch::new(1), 2);
    assert_eq!(play.does(Event::TurnedOff { node: name("a"), renewal, off: false }), "");
    assert_eq!(play.waits(3999, &[]), "");
    assert_eq!(play.waits(4000, &[]), "turn off a after 1.2");
}

#[test]
fn where_the_primary_may_have_acknowledged_alone_whoever_is_heard_has_the_time_to_stop() {
    let released = open().release(&name("a")).unwrap();
    let mut play = Play::watching(&released);
    let (b, c) = (play.stopped(&wal(120)), Report::default());
    assert_eq!(play.waits(500, &[("b", &b), ("c", &c)]), "");
    // It has more.
    let told = play.hears_frozen("c", &wal(130));
    assert_eq!(told, "put c nominated by k1: Released, voters b");
    // One that is silent is not waited for, and one that is heard no longer than a lease.
    assert_eq!(
        Play::watching(&released).waits(350, &[("b", &b)]),
        "put b nominated by k1: Released, voters "
    );
    let mut play = Play::watching(&released);
    assert_eq!(play.waits(950, &[("b", &b), ("c", &c)]), "");
    let told = play.waits(1000, &[("b", &b), ("c", &c)]);
    assert!(told.contains("put b nominated by k1: Released, voters "), "{told}");
}

#[test]
fn who_may_fetch_log_from_an_archive_is_no_vote_for_a_quorum() {
    let mut play = Play::watching(&frozen(&cluster(SYNC)));
    play.at(10).hears_frozen("b", &wal(120));
    let restoring = Report { restores: true, ..play.stopped(&wal(110)) };
    assert_eq!(play.hears("c", restoring), "");
    assert_eq!(play.hears_frozen("c", &wal(110)), "put b nominated by k1: Quorum, voters c");
}

#[test]
fn a_candidate_is_told_from_whom_to_catch_up_once_in_a_while() {
    let mut record = frozen(&cluster(SYNC));
    record.members.get_mut(&name("b")).unwrap().nofailover = true;
    let mut play = Play::watching(&record);
    play.hears_frozen("b", &wal(130));
    assert_eq!(play.at(10).hears_frozen("c", &wal(120)), "c catches up from b in freeze 1");
    assert_eq!(play.at(109).hears_frozen("c", &wal(121)), "");
    assert_eq!(play.at(110).hears_frozen("c", &wal(122)), "c catches up from b in freeze 1");
}

#[test]
fn who_stopped_and_is_lost_counts_for_what_it_had_and_is_no_candidate() {
    // Both are needed, and the one that is gone had more: the other cannot get it.
    let record = Record {
        lease: Lease::Released { by: name("a"), renewal: 3, flushed: Lsn::new(120) },
        ..frozen(&cluster(SYNC))
    };
    let mut play = Play::watching(&record);
    let c = play.stopped(&wal(110));
    play.at(10).hears_frozen("b", &wal(120));
    assert_eq!(play.waits(500, &[("c", &Report::default())]), "");
    assert_eq!(play.hears("c", c.clone()), "");
    // It had no more: it makes up the number.
    let mut play = Play::watching(&record);
    play.at(10).hears_frozen("b", &wal(110));
    assert_eq!(play.waits(500, &[("c", &Report::default())]), "");
    assert_eq!(play.hears("c", c), "put c nominated by k1: Released, voters b");
}
