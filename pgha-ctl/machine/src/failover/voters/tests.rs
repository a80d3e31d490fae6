use super::*;
use crate::failover::fixture::{at, name, set};

#[test]
fn of_any_set_the_blocking_ones_meet_every_quorum() {
    const NODES: [&str; 5] = ["a", "b", "c", "d", "e"];
    for n in 1..=NODES.len() {
        for quorum in 1..=n {
            let set = set(&NODES[..n], quorum);
            for chosen in 0_u32..1 << n {
                let is = |node: &NodeName| {
                    NODES
                        .iter()
                        .position(|of| name(of) == *node)
                        .is_some_and(|i| chosen >> i & 1 == 1)
                };
                let rest = |node: &NodeName| !is(node);
                assert_eq!(set.acknowledged_by(is), chosen.count_ones() as usize >= quorum);
                // They are frozen: a quorum is left among the rest, or is not.
                assert_eq!(set.blocked_by(is), !set.acknowledged_by(rest), "{set:?} {chosen:b}");
            }
        }
    }
}

#[test]
fn a_set_waits_for_no_more_than_there_are() {
    assert_eq!(set(&["b"], 2), set(&["b"], 1));
    assert_eq!(set(&[], 2), VoterSet::empty());
    assert!(VoterSet::empty().is_open() && !set(&["b"], 1).is_open());
    assert!(VoterSet::empty().acknowledged_by(|_| false));
}

#[test]
fn voters_are_blocked_where_each_set_is() {
    let voters = |sets: Vec<VoterSet>| Voters { sets, floor: at(1, 0) };
    let blocked =
        |voters: &Voters, frozen: &str| voters.blocked_by(|node| frozen.contains(node.as_str()));
    let changing = voters(vec![set(&["b"], 1), set(&["c", "d"], 1)]);
    assert!(!changing.is_settled() && changing.wanted() == &set(&["c", "d"], 1));
    for (frozen, is) in
        [("", false), ("b", false), ("cd", false), ("bc", false), ("bd", false), ("bcd", true)]
    {
        assert_eq!(blocked(&changing, frozen), is, "{frozen}");
    }
    // Where a commit waits for nobody, nobody's silence proves anything.
    let open = voters(vec![set(&["b"], 1), VoterSet::empty()]);
    assert!(open.may_acknowledge_alone() && !changing.may_acknowledge_alone());
    assert!(!blocked(&open, "abcde"));
}
