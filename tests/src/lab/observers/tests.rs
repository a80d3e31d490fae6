use std::time::Duration;

use super::super::reader::Moment;
use super::*;

#[test]
fn only_what_a_test_did_itself_is_excused() {
    let begun = Moment::now();
    let at = |millis| Moment { here: begun.here + Duration::from_millis(millis), ..begun };
    let visit = |from, until| Visit {
        began: at(from),
        ended: at(until),
        answer: Err("nobody is there".to_owned()),
    };
    let claim = |mac| Claim { address: WRITER_VIP.into(), mac, answers: false };
    let answer = |mac| Claim { answers: true, ..claim(mac) };
    let (rival, other) = ([2, 0, 10, 77, 0, 2], [2, 0, 10, 77, 0, 11]);
    let frozen = [2, 0, 10, 77, 0, 12];
    let undirected = vec![(at(10).here, at(20).here), (at(50).here, at(60).here)];
    let excused = Excused { rivals: vec![rival], still: vec![frozen], undirected };
    assert!(excused.is_of_test(&claim(rival)) && excused.is_of_test(&answer(rival)));
    assert!(!excused.is_of_test(&claim(other)) && !excused.is_of_test(&answer(other)));
    assert!(!excused.is_of_test(&claim(frozen)) && excused.is_of_test(&answer(frozen)));
    let within = [(5, 10), (12, 13), (20, 30), (0, 100), (55, 70)];
    assert!(within.iter().all(|(from, until)| excused.is_undirected(&visit(*from, *until))));
    let outside = [(0, 9), (21, 49), (61, 62)];
    assert!(!outside.iter().any(|(from, until)| excused.is_undirected(&visit(*from, *until))));
    let nothing = Excused::default();
    assert!(!nothing.is_of_test(&claim(rival)) && !nothing.is_undirected(&visit(12, 13)));
}
