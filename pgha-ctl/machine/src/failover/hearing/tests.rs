use super::*;
use crate::failover::fixture::{SYNC, cluster, name, pace};

const START: Moment = Moment::new(1_000);

const fn at(milliseconds: u64) -> Moment {
    Moment::new(1_000 + milliseconds)
}

fn report(seen: u64) -> Report {
    Report { seen: Some(seen), ..Report::default() }
}

#[test]
fn who_says_nothing_is_silent_after_a_while() {
    let mut hearing = Hearing::from(START);
    let (a, b) = (name("a"), name("b"));
    hearing.note(at(100), a.clone(), report(1));
    let both = || [&a, &b].into_iter();
    let silent = |hearing: &Hearing, now| hearing.silent(now, both(), &pace());
    // Who was never heard counts from the start.
    assert_eq!(silent(&hearing, at(299)), BTreeSet::new());
    assert_eq!(silent(&hearing, at(300)), [b.clone()].into());
    assert_eq!(silent(&hearing, at(400)), [a.clone(), b.clone()].into());
    hearing.note(at(400), b.clone(), report(2));
    assert_eq!(silent(&hearing, at(400)), [a.clone()].into());
    assert_eq!((hearing.since(&a), hearing.since(&b)), (at(100), at(400)));
}

#[test]
fn the_next_silence_is_due_when_the_first_of_them_begins_it() {
    let mut hearing = Hearing::from(START);
    let (a, b) = (name("a"), name("b"));
    hearing.note(at(100), a.clone(), report(1));
    let due = |now| hearing.due(now, [&a, &b].into_iter(), &pace());
    assert_eq!([due(at(0)), due(at(300)), due(at(400))], [Some(at(300)), Some(at(400)), None]);
}

#[test]
fn the_last_word_counts() {
    let mut hearing = Hearing::from(START);
    let a = name("a");
    assert_eq!(hearing.report(&a), None);
    hearing.note(at(100), a.clone(), report(1));
    hearing.note(at(200), a.clone(), report(2));
    assert_eq!(hearing.report(&a), Some(&report(2)));
    assert_eq!(hearing.reports().collect::<Vec<_>>(), [(&a, &report(2))]);
}

#[test]
fn who_goes_on_without_the_store_is_the_holder_that_says_so_and_is_heard() {
    let (mut hearing, record) = (Hearing::from(START), cluster(SYNC));
    let (a, b) = (name("a"), name("b"));
    let alone = |failsafe| Report { failsafe, ..report(1) };
    hearing.note(at(100), b, alone(true));
    assert_eq!(hearing.goes_on_alone(at(100), &record), None, "it holds no lease");
    hearing.note(at(100), a.clone(), alone(true));
    assert_eq!(hearing.goes_on_alone(at(399), &record), Some(&a));
    assert_eq!(hearing.goes_on_alone(at(400), &record), None, "it is silent");
    hearing.note(at(500), a, alone(false));
    assert_eq!(hearing.goes_on_alone(at(500), &record), None, "the store is back");
}
