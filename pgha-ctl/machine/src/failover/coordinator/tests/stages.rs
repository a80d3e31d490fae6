//! The stages, and the way through them.

use super::*;
use crate::failover::fixture::pace;

fn nominated(record: &Record) -> Record {
    let rules = Rules::default();
    record
        .nominate(name("b"), name("k2"), Proof::Quorum, &stopped(&[("b", 120), ("c", 110)]), rules)
        .unwrap()
}

#[test]
fn the_stage_is_what_the_record_says() {
    assert_eq!(Play::begin(&[]).coordinator.stage(), Stage::Unknown);
    let running = cluster(SYNC);
    let suspected = frozen(&running);
    let nominee = nominated(&suspected);
    let taken = nominee.take(&name("b"), 9, &wal(120), Rules::default()).unwrap();
    for (record, stage) in [
        (running, Stage::Watching),
        (suspected, Stage::Frozen),
        (nominee, Stage::Nominated),
        (taken, Stage::Watching),
    ] {
        assert_eq!(Play::watching(&record).coordinator.stage(), stage);
    }
}

#[test]
fn each_stage_writes_what_leads_to_the_next() {
    let suspects = |play: &mut Play| play.hears("a", Report { fault: true, ..deaf_to(&[]) });
    let proves = |play: &mut Play| {
        let first = play.hears_frozen("b", &wal(120));
        first + &play.hears_frozen("c", &wal(120))
    };
    let neither = |play: &mut Play| play.hears("a", deaf_to(&[]));
    let running = cluster(SYNC);
    let suspected = frozen(&running);
    let nominee = nominated(&suspected);
    let freezes = "put freeze 1 by k1: Reported";
    let nominates = "put b nominated by k1: Quorum, voters c";
    for (record, on_suspicion, on_proof) in
        [(&running, freezes, ""), (&suspected, "", nominates), (&nominee, "", "")]
    {
        assert_eq!(suspects(Play::watching(record).at(10)), on_suspicion);
        assert_eq!(proves(Play::watching(record).at(10)), on_proof);
        assert_eq!(neither(Play::watching(record).at(10)), "");
    }
}

#[test]
fn who_is_faulty_and_furthest_keeps_nobody_from_catching_up_with_enough_voters() {
    let mut suspected = frozen(&cluster(SYNC));
    suspected.members.get_mut(&name("b")).unwrap().nofailover = true;
    let mut play = Play::watching(&suspected);
    let former = Report { faulty: true, ..play.at(10).stopped(&wal(160)) };
    assert_eq!(play.hears("a", former), "");
    assert_eq!(play.hears_frozen("b", &wal(150)), "");
    assert_eq!(play.hears_frozen("c", &wal(120)), "c catches up from b in freeze 1");
}

#[test]
fn before_the_record_is_read_nothing_is_written() {
    let mut play = Play::begin(&["a"]);
    assert_eq!(play.hears("a", Report { fault: true, ..deaf_to(&[]) }), "read");
    assert_eq!(play.at(10).does(Event::Store(Answer::Read(None))), "");
    assert_eq!(play.at(5000).does(Event::Tick), "read");
}

#[test]
fn a_freeze_is_undone_when_the_primary_has_renewed_and_is_heard() {
    let suspected = frozen(&cluster(SYNC));
    let renewed = renewed(&suspected);
    let well = deaf_to(&[]);
    let mut play = Play::watching(&suspected);
    assert_eq!(play.waits(200, &[("a", &well)]), "");
    assert_eq!(play.hears_of(&renewed), "");
    // It must have lasted as long as makes a suspicion.
    assert_eq!(play.waits(299, &[("a", &well)]), "");
    assert_eq!(play.at(300).does(Event::Tick), "put thawed");
    // Without a renewal since, without a word, or with a complaint, it is not.
    let mut play = Play::watching(&suspected);
    assert_eq!(play.waits(900, &[("a", &well)]), "");
    let complains = Report { fault: true, ..well };
    for words in [vec![], vec![("a", &complains)]] {
        let mut play = Play::watching(&suspected);
        play.at(200).hears_of(&renewed);
        assert_eq!(play.waits(900, &words), "");
    }
}

#[test]
fn who_has_released_does_not_come_back() {
    let released = cluster(SYNC).release(&name("a")).unwrap();
    let mut play = Play::watching(&released);
    assert_eq!(play.waits(3000, &[("a", &deaf_to(&[]))]), "");
}

#[test]
fn a_nomination_that_is_not_taken_is_withdrawn_after_a_lease() {
    let suspected = frozen(&cluster(SYNC));
    let mut play = Play::watching(&nominated(&suspected));
    assert_eq!(play.waits(999, &[]), "");
    assert_eq!(play.waits(1000, &[]), "put no nominee");
    // Its time begins when the nomination is seen.
    let mut play = Play::watching(&suspected);
    assert_eq!(play.waits(900, &[]), "");
    assert_eq!(play.hears_of(&nominated(&suspected)), "");
    assert_eq!(play.waits(1899, &[]), "");
    assert_eq!(play.waits(1900, &[]), "put no nominee");
}

#[test]
fn a_write_that_met_another_is_thought_over() {
    let record = cluster(SYNC);
    let mut play = Play::watching(&record);
    let fault = Report { fault: true, ..deaf_to(&[]) };
    assert_eq!(play.at(10).hears("a", fault.clone()), "put freeze 1 by k1: Reported");
    // Nothing else is asked for before that is answered.
    assert_eq!(play.at(20).hears("a", fault), "");
    assert_eq!(play.does(Event::Store(Answer::Written(Written::Conflict))), "read");
    // The other controller was faster.
    let by_k2 = record.freeze(name("k2"), Suspicion::Reported).unwrap();
    assert_eq!(play.reads(&by_k2), "");
    assert_eq!(play.coordinator.stage(), Stage::Frozen);
}

#[test]
fn everybody_is_told_that_it_lives_and_whom_it_does_not_hear() {
    let mut play = Play::watching(&cluster(SYNC));
    let mut tell = |milliseconds, event| {
        play.at(milliseconds)
            .coordinator
            .handle(START + Duration::from_millis(milliseconds), event);
        let effects = std::iter::from_fn(|| play.coordinator.poll_effect());
        let sent = effects.filter_map(|effect| match effect {
            Effect::Send { to, message: Message::Report(report) } => Some((to, report)),
            Effect::Send { .. }
            | Effect::Store(_)
            | Effect::TurnOff { .. }
            | Effect::Answered { .. } => None,
        });
        sent.collect::<Vec<_>>()
    };
    let message = Message::Report(Report::default());
    let report = Report {
        epoch: Epoch::new(1),
        seen: Some(1),
        silent: [name("a"), name("c")].into(),
        ..Report::default()
    };
    let everybody = ["a", "b", "c", "k2"].map(|node| (name(node), report.clone()));
    assert_eq!(tell(300, Event::Heard { from: name("b"), message }), everybody);
    assert_eq!(tell(399, Event::Tick), []);
    assert_eq!(tell(400, Event::Tick), everybody);
    assert_eq!(pace().heartbeat, Duration::from_millis(100));
}

#[test]
fn whatever_it_does_by_itself_it_does_when_it_wanted_to_be_woken() {
    let mut play = Play::watching(&cluster(SYNC));
    for _ in 0..100 {
        play.now = play.coordinator.poll_timeout(play.now).unwrap();
        let told = play.does(Event::Tick);
        if told == "put freeze 1 by k1: Expired" {
            assert_eq!(play.now, START + Duration::from_millis(1060));
            return;
        }
        if told == "read" {
            let record = play.record.clone().unwrap();
            assert_eq!(play.reads(&record), "");
        }
    }
    panic!("nothing was suspected");
}

#[test]
fn while_a_first_read_is_under_way_it_waits() {
    let mut play = Play::begin(&[]);
    assert_eq!(play.does(Event::Tick), "read");
    assert_eq!(play.does(Event::Store(Answer::Read(None))), "");
    assert_eq!(play.at(100).does(Event::Tick), "read");
    assert_eq!(play.coordinator.poll_timeout(play.now), Some(START + Duration::from_millis(200)));
}

#[test]
fn who_is_ill_gives_what_only_it_has() {
    let released = cluster(SYNC).release(&name("a")).unwrap();
    let mut play = Play::watching(&released);
    let former = Report { faulty: true, ..play.at(10).stopped(&wal(160)) };
    assert_eq!(play.hears("a", former.clone()), "");
    assert_eq!(play.hears_frozen("b", &wal(120)), "b catches up from a in freeze 1");
    // Not one that is gone.
    let mut play = Play::watching(&released);
    let b = play.at(10).stopped(&wal(120));
    assert_eq!(play.hears("a", former), "");
    play.waits(310, &[("b", &b)]);
    assert_eq!(play.waits(900, &[("b", &b)]), "");
}
