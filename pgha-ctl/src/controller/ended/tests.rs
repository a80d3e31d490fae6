use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Outcome, PATIENCE, ROUNDS, Rounds, come_back};

const ONE: (u16, u16) = (1, 0);
const TWO: (u16, u16) = (2, 7);

#[test]
fn each_server_has_its_rounds() {
    let start = Instant::now();
    let mut rounds = Rounds::default();
    assert_eq!(rounds.next(), None);
    rounds.begin(start, [ONE]);
    for (number, wait) in ROUNDS.into_iter().enumerate() {
        assert_eq!(rounds.next(), Some(start + wait));
        assert!(rounds.take_due(start + wait - Duration::from_nanos(1)).is_empty() || number == 0);
        let _ = rounds.take_due(start + wait);
        assert!(rounds.contains(ONE));
    }
    assert_eq!(rounds.next(), None);
    assert!(!rounds.contains(ONE));
}

#[test]
fn servers_that_end_meanwhile_join() {
    let start = Instant::now();
    let mut rounds = Rounds::default();
    rounds.begin(start, [ONE]);
    assert_eq!(rounds.take_due(start), BTreeMap::from([(ONE, 0)]));
    let second = start + ROUNDS[1];
    rounds.begin(second, [TWO]);
    assert_eq!(rounds.take_due(second), BTreeMap::from([(ONE, 1), (TWO, 0)]));
    assert!(rounds.take_due(second).is_empty());
    assert_eq!(rounds.next(), Some(start + ROUNDS[2]).min(Some(second + ROUNDS[1])));
}

#[test]
fn a_server_that_is_there_again_is_spared() {
    let start = Instant::now();
    let mut rounds = Rounds::default();
    rounds.begin(start, [ONE, TWO]);
    let _ = rounds.take_due(start);
    rounds.spare(&BTreeSet::from([TWO]));
    assert!(rounds.contains(ONE) && !rounds.contains(TWO));
    // One that dies again begins anew.
    rounds.begin(start + ROUNDS[1], [TWO]);
    assert_eq!(rounds.take_due(start + ROUNDS[1]), BTreeMap::from([(ONE, 1), (TWO, 0)]));
}

#[test]
fn nobody_is_told_once_the_controller_ends() {
    let start = Instant::now();
    let mut rounds = Rounds::default();
    rounds.begin(start, [ONE, TWO]);
    rounds.end();
    assert!(!rounds.contains(ONE) && !rounds.contains(TWO));
    assert_eq!(rounds.next(), None);
}

#[test]
fn who_found_no_room_is_come_back_to_in_turn() {
    let mut tried = Vec::new();
    let left = come_back(VecDeque::from([1, 2, 3]), Instant::now() + PATIENCE, |number| {
        tried.push(*number);
        if tried.len() == 1 { Outcome::NoRoom } else { Outcome::Settled }
    });
    assert_eq!((tried, left), (vec![1, 2, 3, 1], VecDeque::new()));
}

#[test]
fn a_queue_that_stays_full_is_waited_for_until_the_end_of_the_round() {
    let mut tries = 0;
    let left =
        come_back(VecDeque::from([1, 2]), Instant::now() + Duration::from_millis(20), |_| {
            tries += 1;
            Outcome::NoRoom
        });
    assert_eq!(left.len(), 2);
    assert!((1..=20).contains(&tries), "{tries}");
    let left = come_back(VecDeque::from([1]), Instant::now(), |_| Outcome::Settled);
    assert_eq!(left.len(), 1);
}
