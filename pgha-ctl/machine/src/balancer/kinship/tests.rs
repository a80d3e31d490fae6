use super::*;

fn primary(timeline: u32, end: u64) -> PrimaryAnswer {
    PrimaryAnswer {
        host: std::net::Ipv4Addr::LOCALHOST.into(),
        timeline: Some(Timeline::new(timeline)),
        system: Some(7),
        lsn: Some(Lsn::new(end)),
        walsenders: Vec::new(),
    }
}

fn standby(timeline: u32, received: u64, replayed: u64, receiving: bool) -> Standby {
    Standby {
        received: Some(Lsn::new(received)),
        replayed: Some(Lsn::new(replayed)),
        timeline: Some(Timeline::new(timeline)),
        system: Some(7),
        receiving,
        ..Standby::default()
    }
}

#[test]
fn only_an_answer_asked_after_the_check_compares() {
    for (timeline, end, diverged) in
        [(2, 100, false), (2, 99, true), (1, 100, true), (3, 100, false)]
    {
        let answer = primary(timeline, end);
        let mut kinship = Kinship::default();
        kinship.checked(&standby(2, 90, 100, false), 5, Some(&answer));
        // The sixth may have been asked before.
        kinship.compare(&answer, 6);
        assert_eq!(kinship.withheld(Some(&answer)), None);
        kinship.compare(&answer, 7);
        let expected = diverged.then_some(Withheld::Diverged);
        assert_eq!(kinship.withheld(Some(&answer)), expected, "{timeline} {end}");
    }
}

#[test]
fn what_is_received_counts_as_much_as_what_is_replayed() {
    let answer = primary(2, 100);
    let mut kinship = Kinship::default();
    kinship.checked(&standby(2, 101, 100, false), 0, Some(&answer));
    kinship.compare(&answer, 2);
    assert_eq!(kinship.withheld(Some(&answer)), Some(Withheld::Diverged));
}

#[test]
fn checks_in_between_do_not_put_the_comparison_off() {
    let answer = primary(2, 100);
    let mut kinship = Kinship::default();
    for round in 0..3 {
        kinship.checked(&standby(3, 50, 50, false), round, Some(&answer));
        kinship.compare(&answer, round + 1);
    }
    assert_eq!(kinship.withheld(Some(&answer)), Some(Withheld::Diverged));
}

#[test]
fn a_standby_on_an_older_timeline_is_not_diverged_by_that() {
    let answer = primary(3, 100);
    let mut kinship = Kinship::default();
    for round in 0..10 {
        kinship.checked(&standby(2, 100, 100, false), round, Some(&answer));
        kinship.compare(&answer, round + 1);
        assert_eq!(kinship.withheld(Some(&answer)), None);
    }
}

#[test]
fn who_diverged_is_taken_back_only_when_it_streams_on_the_primarys_timeline() {
    let mut kinship = Kinship::default();
    kinship.checked(&standby(1, 200, 200, false), 0, Some(&primary(2, 150)));
    kinship.compare(&primary(2, 150), 2);
    // The primary has written more by now; that does not undo the other history.
    for (check, diverged) in [
        (standby(1, 200, 200, false), true),
        (standby(1, 200, 200, true), true),
        (standby(2, 200, 200, false), true),
        (standby(2, 210, 210, true), false),
    ] {
        let answer = primary(2, 300);
        kinship.checked(&check, 3, Some(&answer));
        let expected = diverged.then_some(Withheld::Diverged);
        assert_eq!(kinship.withheld(Some(&answer)), expected, "{check:?}");
    }
}

#[test]
fn who_is_found_within_the_primarys_timeline_after_all_is_taken_back() {
    for (timeline, diverged) in [(2, false), (1, true)] {
        let mut kinship = Kinship::default();
        kinship.checked(&standby(timeline, 200, 200, false), 0, None);
        kinship.compare(&primary(2, 150), 2);
        assert_eq!(kinship.withheld(Some(&primary(2, 150))), Some(Withheld::Diverged));
        kinship.checked(&standby(timeline, 200, 200, false), 2, None);
        kinship.compare(&primary(2, 300), 4);
        let expected = diverged.then_some(Withheld::Diverged);
        assert_eq!(kinship.withheld(Some(&primary(2, 300))), expected, "timeline {timeline}");
    }
}

#[test]
fn another_cluster_is_foreign_and_stays_so_while_nobody_answers() {
    let answer = primary(1, 100);
    let mut kinship = Kinship::default();
    kinship.checked(&Standby { system: Some(8), ..standby(1, 1, 1, true) }, 0, Some(&answer));
    assert_eq!(kinship.withheld(Some(&answer)), Some(Withheld::ForeignSystem));
    kinship.checked(&Standby { system: None, ..standby(1, 1, 1, true) }, 1, None);
    assert_eq!(kinship.withheld(Some(&answer)), Some(Withheld::ForeignSystem));
    let silent = PrimaryAnswer { system: None, ..answer.clone() };
    assert_eq!(kinship.withheld(Some(&silent)), None);
    assert_eq!(kinship.withheld(None), None);
    kinship.checked(&standby(1, 1, 1, true), 2, Some(&answer));
    assert_eq!(kinship.withheld(Some(&answer)), None);
}
