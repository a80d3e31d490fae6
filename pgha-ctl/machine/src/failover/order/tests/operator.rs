use super::*;

#[test]
fn a_cluster_begins_with_one_primary_that_waits_for_nobody() {
    let log = through(&[(2, 50), (3, FLOOR)]);
    let others = [(name("b"), Member { confirmed: true, ..member(true, 2) })].into();
    assert_eq!(
        Record::founded(&name("a"), &log, &others, ASYNC, pace()).unwrap(),
        Record {
            system: None,
            members: [
                (name("a"), Member { confirmed: true, ..member(false, 0) }),
                (name("b"), member(true, 2))
            ]
            .into(),
            mode: ASYNC,
            pace: pace(),
            epoch: Epoch::new(1),
            lease: Lease::Held { by: name("a"), run: 0, renewal: 0, flushed: Lsn::new(FLOOR) },
            voters: Voters { sets: vec![VoterSet::empty()], floor: at(3, FLOOR) },
            freeze: None,
            freezes: 0,
            nomination: None,
            doubts: BTreeSet::new(),
            terms: vec![Term {
                epoch: Epoch::new(1),
                node: name("a"),
                timeline: Timeline::new(3),
                fork: at(3, FLOOR),
                promoted: true,
                degraded: Vec::new(),
                cause: None,
            }],
        }
    );
}

#[test]
fn strict_begins_with_voters_and_covers_what_was_before() {
    let others = [(name("b"), member(false, 0)), (name("c"), member(true, 0))].into();
    let record = Record::founded(&name("a"), &wal(FLOOR), &others, STRICT, pace()).unwrap();
    // For whom the first commits waited is not known.
    assert_eq!(record.voters.sets, [VoterSet::empty(), set(&["b", "c"], 1)]);
    let sync = Record::founded(&name("a"), &wal(FLOOR), &others, SYNC, pace()).unwrap();
    assert_eq!(sync.voters.sets, [VoterSet::empty()]);
    assert_eq!(sync.term().degraded, [Degraded { from: Lsn::new(FLOOR), until: None }]);
}

#[test]
fn who_leaves_is_neither_in_charge_nor_needed() {
    let record = cluster(STRICT);
    assert_eq!(refused(record.leave(&name("a"))), "a holds the lease or may take it");
    assert_eq!(refused(record.leave(&name("x"))), "x is no member");
    assert_eq!(frozen(&record).leave(&name("b")), Err(Refusal::Frozen(Epoch::new(1))));
    let left = record.leave(&name("b")).unwrap();
    assert_eq!(left.members.keys().collect::<Vec<_>>(), [&name("a"), &name("c")]);
    // It is a voter until the primary has changed that.
    assert_eq!(left.voters, record.voters);
    assert_eq!(left.leave(&name("c")), Err(Refusal::MustWait));
    assert!(cluster(SYNC).leave(&name("b")).unwrap().leave(&name("c")).is_ok());
}

#[test]
fn an_operator_says_who_shall_be_chosen() {
    let record = cluster(SYNC);
    let tagged = record.tag(&name("b"), true, 7).unwrap();
    assert_eq!(
        tagged.members[&name("b")],
        Member { confirmed: true, nofailover: true, priority: 7 }
    );
    assert_eq!(tagged.tag(&name("b"), true, 7), Err(Refusal::Nothing));
    assert_eq!(refused(record.tag(&name("x"), true, 0)), "x is no member");
    assert!(frozen(&record).tag(&name("b"), true, 0).is_ok());
}

#[test]
fn another_mode_holds_for_the_next_voters() {
    let record = cluster(ASYNC);
    assert_eq!(record.set_mode(ASYNC), Err(Refusal::Nothing));
    assert_eq!(record.set_mode(Mode::Strict { quorum: 3 }), Err(Refusal::MustWait));
    assert_eq!(frozen(&record).set_mode(SYNC), Err(Refusal::Frozen(Epoch::new(1))));
    // Until a quorum is waited for, it is degraded, and says so.
    let sync = record.set_mode(SYNC).unwrap();
    let from = Lsn::new(FLOOR);
    assert_eq!(sync.term().degraded, [Degraded { from, until: None }]);
    let both = sync.announce(&name("a"), set(&["b", "c"], 1)).unwrap();
    let settled = both.settle(&name("a"), at(1, 140), &BTreeSet::new()).unwrap();
    assert_eq!(settled.term().degraded, [Degraded { from, until: Some(Lsn::new(140)) }]);
}
