mod histories;
mod operator;

use std::collections::BTreeMap;

use super::*;
use crate::Epoch;
use crate::failover::fixture::{
    ASYNC, FLOOR, RUN, STRICT, SYNC, at, cluster, frozen, member, name, pace, set, stopped,
    through, wal,
};
use crate::failover::record::Member;

fn refused(next: Next) -> String {
    next.expect_err("it is refused").to_string()
}

fn nominated(record: &Record, node: &str, voters: &[&str]) -> Record {
    let frozen: Vec<_> = voters.iter().chain([&node]).map(|node| (*node, FLOOR)).collect();
    let frozen = stopped(&frozen);
    record.nominate(name(node), name("k1"), Proof::Quorum, &frozen, Rules::default()).unwrap()
}

/// `b` has taken epoch 2 at byte 120.
fn taken(mode: Mode) -> Record {
    let frozen = frozen(&cluster(mode));
    nominated(&frozen, "b", &["c"]).take(&name("b"), 8, &wal(120), Rules::default()).unwrap()
}

#[test]
fn s8_who_joins_is_a_candidate_only_after_the_primary_has_renewed() {
    let joining = Member { confirmed: true, ..member(true, 3) };
    let joined = cluster(SYNC).join(name("d"), &joining).unwrap();
    assert_eq!(joined.members[&name("d")], member(true, 3));
    assert_eq!(joined.join(name("d"), &joining), Err(Refusal::Nothing));
    let unconfirmed = frozen(&joined);
    let nomination = |record: &Record| {
        record.nominate(
            name("d"),
            name("k1"),
            Proof::Quorum,
            &stopped(&[("d", FLOOR)]),
            Rules::default(),
        )
    };
    assert_eq!(
        refused(nomination(&unconfirmed)),
        "the primary has not yet confirmed d as a member"
    );
    let confirmed = unconfirmed.renew(&name("a"), RUN, Lsn::new(FLOOR)).unwrap();
    assert_eq!(confirmed.members[&name("d")], joining);
    assert!(nomination(&confirmed).is_ok());
}

#[test]
fn a_renewal_counts_on_and_says_how_far_the_log_is() {
    let before = cluster(SYNC);
    let after = before.renew(&name("a"), 9, Lsn::new(130)).unwrap();
    let lease = Lease::Held { by: name("a"), run: 9, renewal: 3, flushed: Lsn::new(130) };
    assert_eq!(after, Record { lease, ..before });
    // One who does not know how far it was says nothing of that.
    let unknown = after.renew(&name("a"), 10, Lsn::new(0)).unwrap();
    assert_eq!(unknown.lease.flushed(), Lsn::new(130));
}

#[test]
fn s1_only_the_holder_writes_as_the_holder() {
    let record = cluster(SYNC);
    let not_holder = Refusal::NotHolder { node: name("b"), epoch: Epoch::new(1) };
    let b = name("b");
    for next in [
        record.renew(&b, 1, Lsn::new(FLOOR)),
        record.release(&b),
        record.promoted(&b, at(2, FLOOR)),
        record.announce(&b, set(&["c"], 1)),
        record.settle(&b, at(1, FLOOR), &BTreeSet::new()),
    ] {
        assert_eq!(next, Err(not_holder.clone()));
    }
    let released = record.release(&name("a")).unwrap();
    for next in [
        released.renew(&name("a"), RUN, Lsn::new(FLOOR)),
        released.release(&name("a")),
        released.announce(&name("a"), set(&["c"], 1)),
        released.settle(&name("a"), at(1, FLOOR), &BTreeSet::new()),
        released.thaw(),
    ] {
        assert_eq!(refused(next), "a does not hold the lease of epoch 1");
    }
    // Who is nominated and has not taken the epoch.
    let nominated = nominated(&frozen(&record), "b", &["c"]);
    assert_eq!(nominated.renew(&b, 1, Lsn::new(FLOOR)), Err(not_holder));
}

#[test]
fn s1_only_the_nominee_takes_the_epoch_and_once() {
    let frozen = frozen(&cluster(SYNC));
    let c_takes = |record: &Record| record.take(&name("c"), 9, &wal(120), Rules::default());
    let not_nominated = Err(Refusal::NotNominated(name("c")));
    assert_eq!(c_takes(&frozen), not_nominated);
    assert_eq!(c_takes(&nominated(&frozen, "b", &["c"])), not_nominated);
    let nominated = nominated(&frozen, "c", &["b"]);
    assert_eq!(c_takes(&nominated.withdraw().unwrap()), not_nominated);
    let taken = c_takes(&nominated).unwrap();
    assert_eq!(c_takes(&taken), not_nominated);
}

#[test]
fn a_freeze_is_written_once_and_each_has_a_number() {
    let first = frozen(&cluster(SYNC));
    let silent =
        |number| Freeze { number, by: name("k1"), reason: Suspicion::Silent, ordered: None };
    assert_eq!((first.freezes, &first.freeze), (1, &Some(silent(1))));
    assert_eq!(
        refused(first.freeze(name("k2"), Suspicion::Expired)),
        "the voters of epoch 1 are frozen"
    );
    let second = frozen(&first.thaw().unwrap());
    assert_eq!((second.freezes, &second.freeze), (2, &Some(silent(2))));
    assert_eq!(
        Record { freeze: None, ..second.clone() },
        Record { freeze: None, freezes: 2, ..first }
    );
}

#[test]
fn a_freeze_is_undone_only_where_nobody_may_take_the_epoch() {
    let record = cluster(SYNC);
    assert_eq!(refused(record.thaw()), "the voters of epoch 1 are not frozen");
    let nominated = nominated(&frozen(&record), "b", &["c"]);
    assert_eq!(refused(nominated.thaw()), "b is nominated for the next epoch");
    let thawed = nominated.withdraw().unwrap().thaw().unwrap();
    assert_eq!(thawed, Record { freezes: 1, ..record });
}

#[test]
fn a_release_is_a_freeze_too() {
    let record = cluster(SYNC);
    let released = record.release(&name("a")).unwrap();
    let freeze = Freeze { number: 1, by: name("a"), reason: Suspicion::Released, ordered: None };
    let lease = Lease::Released { by: name("a"), renewal: 3, flushed: Lsn::new(FLOOR) };
    assert_eq!(
        released,
        Record { freeze: Some(freeze), freezes: 1, lease: lease.clone(), ..record.clone() }
    );
    // The freeze that is there stays.
    let suspected = frozen(&record);
    assert_eq!(suspected.release(&name("a")).unwrap(), Record { lease, ..suspected });
}

#[test]
fn s2_once_a_candidate_may_take_the_epoch_the_holder_neither_renews_nor_releases() {
    let nominated = nominated(&frozen(&cluster(SYNC)), "b", &["c"]);
    let told = "b is nominated for the next epoch";
    assert_eq!(refused(nominated.renew(&name("a"), RUN, Lsn::new(FLOOR))), told);
    assert_eq!(refused(nominated.release(&name("a"))), told);
    // It renews again when the nomination is withdrawn, and not when the epoch is taken.
    let renews = |record: &Record| record.renew(&name("a"), RUN, Lsn::new(FLOOR));
    assert!(renews(&nominated.withdraw().unwrap()).is_ok());
    let taken = nominated.take(&name("b"), 8, &wal(FLOOR), Rules::default()).unwrap();
    assert_eq!(refused(renews(&taken)), "a does not hold the lease of epoch 2");
}

#[test]
fn one_is_nominated_of_the_members_and_after_a_freeze() {
    let record = cluster(SYNC);
    let nominate = |record: &Record, node| {
        record.nominate(
            name(node),
            name("k1"),
            Proof::Lease,
            &stopped(&[(node, FLOOR)]),
            Rules::default(),
        )
    };
    assert_eq!(refused(nominate(&record, "b")), "the voters of epoch 1 are not frozen");
    let frozen = frozen(&record);
    assert_eq!(refused(nominate(&frozen, "x")), "x is no member");
    assert_eq!(frozen.withdraw(), Err(Refusal::Nothing));
    let nominated = nominate(&frozen, "b").unwrap();
    let nomination = Nomination {
        node: name("b"),
        by: name("k1"),
        proof: Proof::Lease,
        end: at(1, FLOOR),
        voters: vec![],
        forced: false,
    };
    assert_eq!(nominated, Record { nomination: Some(nomination), ..frozen.clone() });
    assert_eq!(refused(nominate(&nominated, "c")), "b is nominated for the next epoch");
    assert_eq!(nominated.withdraw(), Ok(frozen));
}

#[test]
fn a_taken_epoch_begins_with_voters_and_a_timeline_of_its_own() {
    let frozen = frozen(&cluster(SYNC));
    let fork = Term {
        epoch: Epoch::new(2),
        node: name("b"),
        timeline: Timeline::new(2),
        fork: at(1, 120),
        promoted: false,
        degraded: Vec::new(),
        cause: Some(Cause {
            reason: Suspicion::Silent,
            proof: Proof::Quorum,
            ordered: None,
            forced: false,
        }),
    };
    assert_eq!(
        taken(SYNC),
        Record {
            epoch: Epoch::new(2),
            lease: Lease::Held { by: name("b"), run: 8, renewal: 0, flushed: Lsn::new(120) },
            voters: Voters { sets: vec![set(&["c"], 1)], floor: at(1, 120) },
            freeze: None,
            nomination: None,
            terms: vec![frozen.term().clone(), fork],
            ..frozen
        }
    );
}

#[test]
fn a_timeline_is_never_given_twice() {
    // The candidate's log knows of a timeline that the record does not.
    let mut record = cluster(SYNC);
    let strange = through(&[(5, 60), (1, 120)]);
    record.terms.insert(
        0,
        Term {
            epoch: Epoch::new(0),
            node: name("c"),
            timeline: Timeline::new(5),
            fork: at(5, 0),
            promoted: true,
            degraded: Vec::new(),
            cause: None,
        },
    );
    record.terms[1].fork = at(5, 60);
    let taken =
        nominated(&frozen(&record), "b", &["c"]).take(&name("b"), 8, &strange, Rules::default());
    assert_eq!(taken.unwrap().term().timeline, Timeline::new(6));
}

#[test]
fn s4_who_lacks_what_may_have_been_acknowledged_takes_nothing() {
    let nominated = nominated(&frozen(&cluster(SYNC)), "b", &["c"]);
    let takes = |record: &Record, lsn| record.take(&name("b"), 8, &wal(lsn), Rules::default());
    // It is not what it was when it was nominated, whatever has become of it.
    let shorter = "the log of b is not what it was when it was nominated";
    assert_eq!(refused(takes(&nominated, FLOOR - 1)), shorter);
    assert!(takes(&nominated, FLOOR).is_ok());
    let mut higher = nominated;
    higher.voters.floor = at(1, FLOOR + 1);
    let below = "the log of b does not reach the floor of epoch 1";
    assert_eq!(refused(takes(&higher, FLOOR)), below);
}

#[test]
fn s6_who_has_what_the_cluster_does_not_have_takes_nothing() {
    let promoted = taken(SYNC).promoted(&name("b"), at(1, 115)).unwrap();
    let mut nominated = nominated(&frozen(&promoted), "c", &["a"]);
    nominated.nomination.as_mut().unwrap().end = at(1, 115);
    let takes = |wal: &Wal| nominated.take(&name("c"), 9, wal, Rules::default());
    assert_eq!(
        refused(takes(&through(&[(1, 116), (2, 150)]))),
        "the log of c is not a beginning of the cluster's"
    );
    assert_eq!(refused(takes(&wal(116))), "the log of c is not a beginning of the cluster's");
    assert!(takes(&through(&[(1, 115), (2, 150)])).is_ok());
}

#[test]
fn the_first_voters_are_those_whose_log_was_read() {
    let first = |mode, voters: &[&str]| {
        let nominated = nominated(&frozen(&cluster(mode)), "b", voters);
        nominated.take(&name("b"), 8, &wal(120), Rules::default()).map(|taken| taken.voters.sets)
    };
    assert_eq!(first(ASYNC, &["a", "c"]), Ok(vec![VoterSet::empty()]));
    assert_eq!(first(SYNC, &["c"]), Ok(vec![set(&["c"], 1)]));
    // Not the candidate, and nobody who is no member.
    assert_eq!(first(SYNC, &["b", "c", "x"]), Ok(vec![set(&["c"], 1)]));
    assert_eq!(first(SYNC, &[]), Ok(vec![VoterSet::empty()]));
    assert_eq!(first(STRICT, &["c"]), Ok(vec![set(&["c"], 1)]));
    assert_eq!(first(STRICT, &[]), Ok(vec![set(&["a", "c"], 1)]));
}

#[test]
fn strict_never_begins_with_less_than_its_quorum() {
    let two = Mode::Strict { quorum: 2 };
    let nominated = nominated(&frozen(&cluster(two)), "b", &["c"]);
    let taken = nominated.take(&name("b"), 8, &wal(120), Rules::default()).unwrap();
    assert_eq!(taken.voters.sets, [set(&["a", "c"], 2)]);
    // Where there are not so many others, it does not begin at all.
    let alone = Record::founded(&name("a"), &wal(FLOOR), &BTreeMap::new(), STRICT, pace());
    assert_eq!(
        refused(alone),
        "the mode does not allow that a commit waits for fewer voters than its quorum"
    );
}

#[test]
fn s3_the_floor_follows_the_fork_where_nothing_else_was_settled() {
    let taken = taken(SYNC);
    // The log had ended within an entry.
    let promoted = taken.promoted(&name("b"), at(1, 117)).unwrap();
    let term = promoted.term();
    assert_eq!((term.fork, term.promoted), (at(1, 117), true));
    assert_eq!(promoted.voters, Voters { floor: at(1, 117), ..taken.voters.clone() });
    assert_eq!(promoted.promoted(&name("b"), at(1, 117)), Err(Refusal::Nothing));
    let settled = taken.announce(&name("b"), set(&["a", "c"], 1)).unwrap();
    let settled = settled.settle(&name("b"), at(2, 130), &BTreeSet::new()).unwrap();
    assert_eq!(settled.promoted(&name("b"), at(1, 117)).unwrap().voters, settled.voters);
}

#[test]
fn s3_a_change_covers_every_set_until_it_is_settled() {
    let before = cluster(SYNC);
    let announced = before.announce(&name("a"), set(&["b"], 1)).unwrap();
    let announced = announced.announce(&name("a"), VoterSet::empty()).unwrap();
    let sets = vec![set(&["b", "c"], 1), set(&["b"], 1), VoterSet::empty()];
    let floor = before.voters.floor;
    assert_eq!(announced.voters, Voters { sets, floor });
    // One that PostgreSQL may be using already is not told twice.
    let back = announced.announce(&name("a"), set(&["b"], 1)).unwrap();
    assert_eq!(back.voters.sets, [set(&["b", "c"], 1), VoterSet::empty(), set(&["b"], 1)]);
    let settled = announced.settle(&name("a"), at(1, 140), &BTreeSet::new()).unwrap();
    assert_eq!(settled.voters, Voters { sets: vec![VoterSet::empty()], floor: at(1, 140) });
    let rest = |record: &Record| Record {
        voters: before.voters.clone(),
        terms: before.terms.clone(),
        ..record.clone()
    };
    assert_eq!([rest(&announced), rest(&settled)], [before.clone(), before.clone()]);
}

#[test]
fn s3_a_change_is_refused_where_it_could_not_be_covered() {
    let a = name("a");
    let record = cluster(SYNC);
    assert_eq!(record.announce(&a, set(&["b", "c"], 1)), Err(Refusal::Nothing));
    assert_eq!(
        refused(record.settle(&a, at(1, 140), &BTreeSet::new())),
        "there is no change of the voters to be ended"
    );
    let announce = |record: &Record, nodes: &[&str]| record.announce(&a, set(nodes, 1));
    let changing = announce(&announce(&record, &["b"]).unwrap(), &["c"]).unwrap();
    assert_eq!(refused(announce(&changing, &["x"])), "the voters change already");
    // There is room for the set that comes to its end if any does.
    let open = changing.announce(&a, VoterSet::empty()).unwrap();
    assert_eq!(open.voters.sets.len(), 4);
    assert_eq!(refused(announce(&open, &["x"])), "the voters change already");
    let strict = cluster(Mode::Strict { quorum: 1 });
    let changing = announce(&announce(&strict, &["b"]).unwrap(), &["c"]).unwrap();
    assert_eq!(announce(&changing, &["b", "c"]).unwrap().voters.sets.len(), 3);
    // Voters may have stopped.
    let suspected = frozen(&announce(&record, &["b"]).unwrap());
    assert_eq!(announce(&suspected, &["c"]), Err(Refusal::Frozen(Epoch::new(1))));
    assert_eq!(
        suspected.settle(&a, at(1, 140), &BTreeSet::new()),
        Err(Refusal::Frozen(Epoch::new(1)))
    );
    let two = cluster(Mode::Strict { quorum: 2 });
    for fewer in [VoterSet::empty(), set(&["b"], 2), set(&["b", "c"], 1)] {
        assert_eq!(two.announce(&a, fewer), Err(Refusal::MustWait));
    }
}

#[test]
fn a_doubt_ends_with_a_floor_from_after_it() {
    let record = cluster(SYNC);
    let doubt = || Doubt::Impersonated(name("b"));
    let doubted = record.doubt(&name("a"), &[doubt()].into()).unwrap();
    assert_eq!(doubted.doubts, [doubt()].into());
    assert_eq!(doubted.doubt(&name("a"), &[doubt()].into()), Err(Refusal::Nothing));
    assert_eq!(doubted.doubt(&name("a"), &BTreeSet::new()), Err(Refusal::Nothing));
    // More of it is told while the voters are frozen, too, and less only with a floor.
    let lowered = || Doubt::Lowered("app".to_owned());
    let more = frozen(&doubted).doubt(&name("a"), &[lowered()].into()).unwrap();
    assert_eq!(more.doubts, [doubt(), lowered()].into());
    let settled = doubted.settle(&name("a"), at(1, 140), &BTreeSet::new()).unwrap();
    assert_eq!((settled.doubts.len(), settled.voters.floor), (0, at(1, 140)));
    let same = doubted.settle(&name("a"), at(1, 140), &doubted.doubts);
    assert_eq!(same, Err(Refusal::NotChanging));
    // The next epoch begins without.
    let stopped = stopped(&[("b", 140), ("c", 140)]);
    let nominated = frozen(&doubted)
        .nominate(name("b"), name("k1"), Proof::Lease, &stopped, Rules::default())
        .unwrap();
    let taken = nominated.take(&name("b"), 8, &wal(140), Rules::default()).unwrap();
    assert_eq!(taken.doubts, BTreeSet::new());
}

#[test]
fn the_past_that_is_remembered_is_bounded() {
    let mut record = cluster(SYNC);
    for number in 0..100 {
        let open = record.announce(&name("a"), VoterSet::empty()).unwrap();
        let both = open.announce(&name("a"), set(&["b", "c"], 1)).unwrap();
        record = both.settle(&name("a"), at(1, 200 + number), &BTreeSet::new()).unwrap();
    }
    assert_eq!(record.term().degraded.len(), 16);
    let mut log = Wal { end: record.voters.floor, left: vec![] };
    for epoch in 1..100 {
        let (from, to) = if epoch % 2 == 1 { ("a", "b") } else { ("b", "a") };
        let released = record.release(&name(from)).unwrap();
        let frozen = [(name(to), log.clone())].into();
        let nominated = released
            .nominate(name(to), name("k1"), Proof::Released, &frozen, Rules::default())
            .unwrap();
        record = nominated.take(&name(to), 8, &log, Rules::default()).unwrap();
        let fork = record.term().fork;
        record = record.promoted(&name(to), fork).unwrap();
        log.left.push(fork);
        log.end = Position { timeline: record.term().timeline, lsn: fork.lsn };
    }
    assert_eq!((record.epoch, record.terms.len()), (Epoch::new(100), 64));
}

#[test]
fn what_was_promised_to_nobody_is_no_floor() {
    // `async` never waited, and need not have all that its first nominee had.
    assert_eq!(taken(ASYNC).voters.floor, at(1, FLOOR));
    assert_eq!(taken(SYNC).voters.floor, at(1, 120));
    // Where a quorum was waited for before, it may have acknowledged what lies before the fork.
    let sync = frozen(&cluster(SYNC));
    let alone = nominated(&sync, "b", &[]).take(&name("b"), 8, &wal(120), Rules::default());
    assert_eq!(alone.unwrap().voters, Voters { sets: vec![VoterSet::empty()], floor: at(1, 120) });
}

#[test]
fn another_mode_ends_a_change_that_would_not_end() {
    let a = name("a");
    let mut record = cluster(Mode::Strict { quorum: 2 });
    record.members.insert(name("d"), member(false, 0));
    for nodes in [["b", "d"], ["c", "d"]] {
        record = record.announce(&a, set(&nodes, 2)).unwrap();
    }
    record = record.announce(&a, set(&["b", "c", "d"], 2)).unwrap();
    assert_eq!(record.voters.sets.len(), 4);
    let open = record.set_mode(ASYNC).unwrap().announce(&a, VoterSet::empty()).unwrap();
    assert_eq!(open.voters.sets.len(), 5);
}
