//! What freezes.

use super::*;

#[test]
fn the_word_of_the_primary_itself_freezes_at_once() {
    let fault = Report { fault: true, ..deaf_to(&[]) };
    let mut play = Play::watching(&cluster(SYNC));
    assert_eq!(play.at(10).hears("a", fault.clone()), "put freeze 1 by k1: Reported");
    // Not what it said in another epoch, and not what others say.
    let mut play = Play::watching(&cluster(SYNC));
    let before = Report { epoch: Epoch::new(0), ..fault.clone() };
    assert_eq!(play.at(10).hears("a", before), "");
    assert_eq!(play.hears("b", fault), "");
}

#[test]
fn two_that_hear_nothing_freeze_when_it_renews_no_more() {
    // From 300 ms on it is silent, from 350 ms on its renewal is overdue.
    let deaf = deaf_to(&["a"]);
    let mut play = Play::watching(&cluster(SYNC));
    assert_eq!(play.waits(349, &[("b", &deaf)]), "");
    assert_eq!(play.at(350).does(Event::Tick), "put freeze 1 by k1: Silent");
    // Of two others, though this one hears it.
    let mut play = Play::watching(&cluster(SYNC));
    let words = [("a", &deaf_to(&[])), ("b", &deaf), ("k2", &deaf)];
    assert_eq!(play.waits(349, &words), "");
    assert_eq!(play.at(350).does(Event::Tick), "put freeze 1 by k1: Silent");
}

#[test]
fn one_observer_alone_waits_for_the_lease() {
    let hears = deaf_to(&[]);
    for words in [vec![], vec![("b", &hears), ("c", &hears)]] {
        let mut play = Play::watching(&cluster(SYNC));
        assert_eq!(play.waits(1059, &words), "");
        assert_eq!(play.at(1060).does(Event::Tick), "put freeze 1 by k1: Expired");
    }
    // The primary is no observer of itself, and who fell silent is none any more.
    let mut play = Play::watching(&cluster(SYNC));
    play.hears("b", deaf_to(&["a"]));
    play.hears("c", deaf_to(&["a"]));
    assert_eq!(play.waits(1059, &[("a", &deaf_to(&["a"]))]), "");
}

#[test]
fn who_renews_is_not_silent() {
    let mut record = cluster(SYNC);
    let mut play = Play::watching(&record);
    let deaf = deaf_to(&["a"]);
    for step in 1..=6 {
        assert_eq!(play.waits(step * 300, &[("b", &deaf)]), "", "{step}");
        record = renewed(&record);
        assert_eq!(play.hears_of(&record), "");
    }
}

/// When it freezes a primary that renews, within 4 s, and how.
fn freezes(words: &[(&str, &Report)]) -> Option<(u64, String)> {
    let mut record = cluster(SYNC);
    let mut play = Play::watching(&record);
    (1..80).map(|step| step * 50).find_map(|now| {
        let mut told = play.waits(now, words);
        if now % 250 == 0 && told.is_empty() {
            record = renewed(&record);
            told = play.hears_of(&record);
        }
        (!told.is_empty()).then_some((now, told))
    })
}

#[test]
fn who_renews_and_is_heard_by_nobody_is_frozen_after_two_leases() {
    let (deaf, hears) = (deaf_to(&["a"]), deaf_to(&[]));
    // No controller, and one of two members: 2 s after it was silent for 300 ms.
    let cut_off = Some((2300, "put freeze 1 by k1: CutOff".to_owned()));
    assert_eq!(freezes(&[("k2", &deaf), ("b", &deaf), ("c", &hears)]), cut_off);
    // A controller that is gone is no reason to wait.
    assert_eq!(freezes(&[("b", &deaf), ("c", &hears)]), cut_off);
    // The other controller hears it; all members hear it; this controller does.
    assert_eq!(freezes(&[("k2", &hears), ("b", &deaf), ("c", &deaf)]), None);
    assert_eq!(freezes(&[("k2", &deaf), ("b", &hears), ("c", &hears)]), None);
    assert_eq!(freezes(&[("a", &hears), ("k2", &deaf), ("b", &deaf), ("c", &deaf)]), None);
}

#[test]
fn after_the_store_was_lost_the_lease_counts_anew() {
    let record = cluster(SYNC);
    let fault = Report { fault: true, ..deaf_to(&[]) };
    for lost in [Written::Failed, Written::Unknown] {
        let mut play = Play::watching(&record);
        assert_eq!(play.waits(800, &[]), "");
        play.hears("a", fault.clone());
        assert_eq!(play.does(Event::Store(Answer::Written(lost))), "");
        play.hears("a", deaf_to(&[]));
        assert_eq!(play.at(1050).does(Event::Tick), "read");
        assert_eq!(play.reads(&record), "");
        assert_eq!(play.waits(2109, &[]), "", "{lost:?}");
        assert_eq!(play.at(2110).does(Event::Tick), "put freeze 1 by k1: Expired");
    }
    let mut play = Play::watching(&record);
    assert_eq!(play.waits(800, &[]), "");
    assert_eq!(play.does(Event::Store(Answer::Read(None))), "");
    assert_eq!(play.at(1050).reads(&record), "");
    assert_eq!(play.waits(2109, &[]), "");
    assert_eq!(play.at(2110).does(Event::Tick), "put freeze 1 by k1: Expired");
}

#[test]
fn a_renewal_that_was_seen_without_an_answer_voids_what_was_counted() {
    let first = cluster(SYNC);
    let [second, third] = [renewed(&first), renewed(&renewed(&first))];
    let mut play = Play::watching(&first);
    assert_eq!(play.at(250).does(Event::Tick), "read");
    play.hears_of(&second);
    // The answer to an older read comes after the news, and nothing relies on it.
    let late =
        Reading { mark: Mark { incarnation: 1, revision: 1 }, record: Some(Box::new(first)) };
    assert_eq!(play.at(300).does(Event::Store(Answer::Read(Some(late.clone())))), "");
    assert_eq!(play.at(550).does(Event::Tick), "read");
    play.at(600).hears_of(&third);
    // 1.06 s after the second renewal was seen: the third was, meanwhile.
    assert_eq!(play.at(1310).does(Event::Store(Answer::Read(Some(late)))), "");
    assert_eq!(play.at(1560).does(Event::Tick), "read");
    assert_eq!(play.reads(&third), "");
    assert_eq!(play.waits(2619, &[]), "");
    assert_eq!(play.at(2620).does(Event::Tick), "put freeze 1 by k1: Expired");
}

#[test]
fn a_lease_is_seen_to_be_renewed_for_as_long_as_it_lasts() {
    let record = cluster(SYNC);
    let mut play = Play::watching(&record);
    let sees = |play: &Play| play.coordinator.sees_renewals(play.now);
    assert!(sees(play.at(999)));
    assert!(!sees(play.at(1000)));
    let record = renewed(&record);
    play.hears_of(&record);
    assert!(sees(&play));
    // What was renewed while the store was away is not known.
    play.does(Event::Store(Answer::Read(None)));
    assert!(!sees(&play));
}
