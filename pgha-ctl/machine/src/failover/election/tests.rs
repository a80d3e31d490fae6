use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::failover::fixture::{
    ASYNC, FLOOR, STRICT, SYNC, at, cluster, frozen, member, name, set, through, wal,
};
use crate::failover::record::{Lease, Member, Term};
use crate::failover::voters::{VoterSet, Voters};
use crate::{Epoch, Position};

fn logs(of: &[(&str, u64)]) -> Frozen {
    of.iter().map(|(node, lsn)| (name(node), wal(*lsn))).collect()
}

fn elected(record: &Record, of: &[(&str, u64)]) -> Election {
    elect(record, &logs(of), Rules::default())
}

fn candidate(node: &str) -> Election {
    Election::Candidate(name(node))
}

fn nobody(election: Election) -> String {
    match election {
        Election::Nobody(why) => why.to_string(),
        Election::Candidate(_) | Election::CatchUp { .. } => panic!("{election:?}"),
    }
}

fn with_voters(sets: Vec<VoterSet>) -> Record {
    let record = frozen(&cluster(SYNC));
    Record { voters: Voters { sets, floor: at(1, FLOOR) }, ..record }
}

fn allow(record: &mut Record, node: &str, change: impl FnOnce(&mut Member)) {
    change(record.members.get_mut(&name(node)).unwrap());
}

#[test]
fn enough_voters_of_each_set_are_frozen() {
    let record = with_voters(vec![set(&["b", "c"], 1)]);
    assert_eq!(
        nobody(elected(&record, &[("b", 150)])),
        "1 of 2 voters are frozen with their log known, and 2 are needed to be sure that nothing is lost"
    );
    assert_eq!(elected(&record, &[("b", 150), ("c", 120)]), candidate("b"));
    // Every quorum of two has one of them.
    let both = with_voters(vec![set(&["b", "c"], 2)]);
    assert_eq!(elected(&both, &[("c", 120)]), candidate("c"));
    // Of each set.
    let changing = with_voters(vec![set(&["b", "c"], 2), set(&["b"], 1)]);
    assert_eq!(
        nobody(elected(&changing, &[("c", 120)])),
        "0 of 1 voters are frozen with their log known, and 1 are needed to be sure that nothing is lost"
    );
    // Who waits for nobody needs none.
    let open = with_voters(vec![VoterSet::empty()]);
    assert_eq!(elected(&open, &[("b", 120)]), candidate("b"));
}

#[test]
fn a_log_that_diverged_does_not_count() {
    let mut record = with_voters(vec![set(&["b", "c"], 2)]);
    record.terms.push(Term {
        epoch: Epoch::new(2),
        node: name("a"),
        timeline: Timeline::new(2),
        fork: at(1, FLOOR),
        promoted: true,
        degraded: Vec::new(),
        cause: None,
    });
    let frozen = [
        (name("b"), through(&[(1, FLOOR + 1), (2, 900)])),
        (name("c"), through(&[(1, FLOOR), (2, 120)])),
    ];
    assert_eq!(elect(&record, &frozen.into(), Rules::default()), candidate("c"));
}

#[test]
fn a_log_below_the_floor_does_not_count() {
    let record = with_voters(vec![set(&["b", "c"], 1)]);
    assert_eq!(elected(&record, &[("b", FLOOR - 1), ("c", FLOOR)]), candidate("c"));
    assert_eq!(
        nobody(elected(&record, &[("b", FLOOR - 1), ("c", FLOOR - 1)])),
        "no frozen node has the log up to 0/64 of timeline 1"
    );
}

#[test]
fn a_voter_without_a_log_stands_still_and_has_nothing_that_is_needed() {
    let record = with_voters(vec![set(&["b", "c"], 1)]);
    let both = |lsn| [(name("b"), Wal::nothing()), (name("c"), wal(lsn))].into();
    assert_eq!(elect(&record, &both(FLOOR), Rules::default()), candidate("c"));
    assert_eq!(
        nobody(elect(&record, &both(FLOOR - 1), Rules::default())),
        "no frozen node has the log up to 0/64 of timeline 1"
    );
}

#[test]
fn who_is_no_member_does_not_count() {
    let record = with_voters(vec![VoterSet::empty()]);
    assert_eq!(elected(&record, &[("b", 120), ("x", 900)]), candidate("b"));
}

#[test]
fn the_furthest_counts_also_where_it_may_not_be_the_primary() {
    let mut record = with_voters(vec![set(&["b", "c"], 1)]);
    allow(&mut record, "b", |b| b.nofailover = true);
    let catch_up = Election::CatchUp { node: name("c"), from: name("b") };
    assert_eq!(elected(&record, &[("b", 150), ("c", 120)]), catch_up);
    assert_eq!(elected(&record, &[("b", 150), ("c", 150)]), candidate("c"));
    assert_eq!(elected(&record, &[("b", 120), ("c", 150)]), candidate("c"));
}

#[test]
fn who_is_below_the_floor_streams_first_where_nobody_else_may_be_the_primary() {
    let mut record = with_voters(vec![set(&["b", "c"], 1)]);
    allow(&mut record, "b", |member| member.nofailover = true);
    let first = Election::CatchUp { node: name("c"), from: name("b") };
    assert_eq!(elected(&record, &[("b", FLOOR), ("c", FLOOR - 1)]), first);
    assert_eq!(elected(&record, &[("b", FLOOR), ("c", FLOOR)]), candidate("c"));
}

#[test]
fn who_is_unconfirmed_or_excluded_is_no_candidate() {
    let mut record = with_voters(vec![set(&["b", "c"], 1)]);
    allow(&mut record, "b", |b| b.confirmed = false);
    let catch_up = Election::CatchUp { node: name("c"), from: name("b") };
    assert_eq!(elected(&record, &[("b", 150), ("c", 120)]), catch_up);
    allow(&mut record, "c", |c| c.nofailover = true);
    assert_eq!(
        nobody(elected(&record, &[("b", 150), ("c", 120)])),
        "none of the frozen nodes may become the primary"
    );
}

#[test]
fn where_the_primary_may_have_acknowledged_alone_the_candidate_is_not_too_far_behind() {
    let with = |mode, sets: &[VoterSet], flushed| {
        let mut record = with_voters(sets.to_vec());
        record.mode = mode;
        record.lease =
            Lease::Held { by: name("a"), run: 1, renewal: 5, flushed: Lsn::new(flushed) };
        record
    };
    let open = [VoterSet::empty()];
    let log = [("b", 120), ("c", 110)];
    assert_eq!(elected(&with(ASYNC, &open, 130), &log), candidate("b"));
    assert_eq!(
        nobody(elected(&with(ASYNC, &open, 131), &log)),
        "the candidate lacks 11 bytes that the primary had, and may lack 10"
    );
    // Also where it gave the lease back.
    let released = with(ASYNC, &open, 131).release(&name("a")).unwrap();
    assert!(matches!(elected(&released, &log), Election::Nobody(_)));
    assert_eq!(elected(&released, &[("a", 131), ("b", 120)]), candidate("a"));
    let degraded = [set(&["b", "c"], 1), VoterSet::empty()];
    assert!(matches!(elected(&with(SYNC, &degraded, 131), &log), Election::Nobody(_)));
    assert!(matches!(elected(&with(STRICT, &open, 121), &log), Election::Nobody(_)));
    // What nobody else had was never acknowledged.
    assert_eq!(elected(&with(SYNC, &degraded[..1], 900), &log), candidate("b"));
}

#[test]
fn of_several_that_are_equally_far_a_voter_then_priority_then_the_name() {
    let mut record = with_voters(vec![set(&["b", "c"], 1), set(&["c"], 1)]);
    record = record.join(name("d"), &member(false, 9)).unwrap();
    for node in record.members.values_mut() {
        node.confirmed = true;
    }
    let log = [("b", 150), ("c", 150), ("d", 150)];
    assert_eq!(elected(&record, &log), candidate("c"));
    record.voters.sets = vec![set(&["b", "c"], 1)];
    assert_eq!(elected(&record, &log), candidate("b"));
    allow(&mut record, "c", |c| c.priority = 1);
    assert_eq!(elected(&record, &log), candidate("c"));
    // Never before one that is further.
    assert_eq!(elected(&record, &[("b", 150), ("c", 150), ("d", 151)]), candidate("d"));
}

const NODES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn sets() -> impl Strategy<Value = Vec<VoterSet>> {
    let one = (subsequence(&NODES[..], 1..=5), 1..4_usize);
    vec(one.prop_map(|(nodes, quorum)| set(&nodes, quorum)), 1..4)
}

/// The furthest that a quorum of the set has flushed.
fn acknowledged(set: &VoterSet, flushed: impl Fn(&NodeName) -> u64) -> u64 {
    let mut each: Vec<_> = set.nodes.iter().map(flushed).collect();
    each.sort_unstable_by_key(|lsn| Reverse(*lsn));
    each[set.quorum - 1]
}

proptest! {
    /// Whatever sets are in use, however far each node is, whoever diverged, is excluded or did not answer.
    #[test]
    fn what_any_quorum_has_is_in_the_log_of_who_is_elected(
        sets in sets(),
        lsns in vec(FLOOR - 5..FLOOR + 40, NODES.len()),
        diverged in subsequence(&NODES[..], 0..2),
        excluded in subsequence(&NODES[..], 0..4),
        silent in subsequence(&NODES[..], 0..4),
        priorities in vec(0..3, NODES.len()),
        strict in any::<bool>(),
    ) {
        let mut record = with_voters(sets.clone());
        record.mode = if strict { STRICT } else { SYNC };
        record.terms.push(Term {
            epoch: Epoch::new(2),
            node: name("a"),
            timeline: Timeline::new(2),
            fork: at(1, 10),
            promoted: true,
            degraded: Vec::new(),
            cause: None,
        });
        record.voters.floor = at(2, FLOOR);
        let mut all = Frozen::new();
        for ((node, lsn), priority) in NODES.iter().zip(&lsns).zip(priorities) {
            let nofailover = excluded.contains(node);
            let member = Member { confirmed: true, nofailover, priority };
            record.members.insert(name(node), member);
            let left = if diverged.contains(node) { 11 } else { 10 };
            all.insert(name(node), through(&[(1, left), (2, *lsn)]));
        }
        // Who diverged never streamed from this primary.
        let has = |node: &NodeName| {
            if diverged.contains(&node.as_str()) { 0 } else { all[node].end.lsn.bytes() }
        };
        let most = sets.iter().map(|set| acknowledged(set, has)).max().unwrap().max(FLOOR);
        let frozen: Frozen = all
            .iter()
            .filter(|(node, _)| !silent.contains(&node.as_str()))
            .map(|(node, wal)| (node.clone(), wal.clone()))
            .collect();
        let enough = sets.iter().all(|set| set.blocked_by(|node| frozen.contains_key(node)));
        let complete = Position { timeline: Timeline::new(2), lsn: Lsn::new(most) };
        match elect(&record, &frozen, Rules::default()) {
            Election::Candidate(node) => {
                prop_assert!(enough);
                prop_assert!(frozen[&node].contains(complete), "{node} lacks {complete:?}");
                prop_assert!(!record.members[&node].nofailover);
            }
            Election::CatchUp { node, from } => {
                prop_assert!(enough);
                prop_assert!(frozen[&from].contains(complete), "{from} lacks {complete:?}");
                prop_assert!(frozen[&node].end < frozen[&from].end);
                prop_assert!(!record.members[&node].nofailover);
            }
            Election::Nobody(NoCandidate::TooFewVoters { have, needed, of }) => {
                prop_assert!(!enough && have < needed && needed <= of);
            }
            Election::Nobody(NoCandidate::BelowFloor { .. }) => {
                let below = frozen.keys().all(|node| has(node) < FLOOR);
                prop_assert!(enough && below);
            }
            Election::Nobody(NoCandidate::NobodyEligible) => prop_assert!(enough),
            Election::Nobody(why @ (NoCandidate::Behind { .. } | NoCandidate::Impersonated(_))) => prop_assert!(false, "{why}"),
        }
    }
}

#[test]
fn a_primary_that_gave_the_lease_back_and_stopped_has_everything() {
    let released = cluster(Mode::Strict { quorum: 1 }).release(&name("a")).unwrap();
    let elected = |of: &[(&str, u64)]| elected(&released, of);
    assert!(matches!(elected(&[("b", 120)]), Election::Nobody(NoCandidate::TooFewVoters { .. })));
    assert_eq!(elected(&[("a", 120), ("b", 120)]), Election::Candidate(name("b")));
    let from = name("a");
    assert_eq!(elected(&[("a", 130), ("b", 120)]), Election::Candidate(name("a")));
    // Whoever streamed under another's name.
    let doubts = [Doubt::Impersonated(name("c"))].into();
    let doubtful = Record { doubts, ..released.clone() };
    let found = logs(&[("a", 120), ("b", 120), ("c", 110)]);
    assert_eq!(elect(&doubtful, &found, Rules::default()), Election::Candidate(name("b")));
    let found = logs(&[("b", 120), ("c", 110)]);
    assert_eq!(
        elect(&doubtful, &found, Rules::default()),
        Election::Nobody(NoCandidate::Impersonated(name("c")))
    );
    // One that is not to be the primary again gives what it has.
    let mut unwilling = released;
    unwilling.members.get_mut(&from).unwrap().nofailover = true;
    let found = logs(&[("a", 130), ("b", 120)]);
    let node = name("b");
    assert_eq!(elect(&unwilling, &found, Rules::default()), Election::CatchUp { node, from });
}

#[test]
fn what_a_voter_has_that_left_counts() {
    let mut left = frozen(&cluster(SYNC));
    left.members.remove(&name("b"));
    let found = logs(&[("b", 130), ("c", 120)]);
    let (node, from) = (name("c"), name("b"));
    assert_eq!(elect(&left, &found, Rules::default()), Election::CatchUp { node, from });
}
