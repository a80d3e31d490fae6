use super::*;
use crate::failover::fixture::{SYNC, at, cluster, name, pace, through, wal};

/// Epoch 1 wrote timeline 1, epoch 2 left that at 100, epoch 3 took over before it was promoted, and
/// epoch 4 left timeline 3 at 200.
fn record() -> Record {
    let mut record = cluster(SYNC);
    record.terms[0].fork = at(1, 0);
    for (epoch, timeline, fork) in [(2, 2, at(1, 110)), (3, 3, at(1, 100)), (4, 4, at(3, 200))] {
        record.epoch = Epoch::new(epoch);
        record.terms.push(Term {
            epoch: record.epoch,
            node: name("b"),
            timeline: Timeline::new(timeline),
            fork,
            promoted: true,
            degraded: Vec::new(),
            cause: None,
        });
    }
    record
}

#[test]
fn s6_a_log_follows_as_long_as_it_left_each_timeline_in_time() {
    let record = record();
    for (wal, kinship) in [
        (wal(0), Kinship::Follows),
        (wal(100), Kinship::Follows),
        (wal(101), Kinship::Diverged),
        (through(&[(1, 100), (3, 150)]), Kinship::Follows),
        (through(&[(1, 100), (3, 200)]), Kinship::Follows),
        (through(&[(1, 100), (3, 201)]), Kinship::Diverged),
        (through(&[(1, 100), (3, 200), (4, 999)]), Kinship::Follows),
        (through(&[(1, 100), (3, 201), (4, 999)]), Kinship::Diverged),
        // It streamed from a term that nobody followed.
        (through(&[(1, 110), (2, 115)]), Kinship::Diverged),
        (through(&[(1, 100), (2, 100)]), Kinship::Diverged),
        // Nobody knows of that one.
        (through(&[(1, 100), (9, 100)]), Kinship::Diverged),
    ] {
        assert_eq!(record.kinship(&wal), kinship, "{wal:?}");
    }
}

#[test]
fn what_a_mode_waits_for_and_forgives() {
    let told = [
        Mode::Async { max_lag: 7 },
        Mode::Sync { quorum: 2, max_lag: 8 },
        Mode::Strict { quorum: 3 },
    ]
    .map(|mode| (mode.quorum(), mode.max_lag()));
    assert_eq!(told, [(0, 7), (2, 8), (3, 0)]);
}

#[test]
fn the_last_holder_is_known_when_nobody_holds_the_lease() {
    let held = cluster(SYNC);
    let released = held.release(&name("a")).unwrap();
    assert_eq!((held.holder(), held.lease.node()), (Some(&name("a")), &name("a")));
    assert_eq!((released.holder(), released.lease.node()), (None, &name("a")));
}

#[test]
fn a_record_survives_text() {
    let record = record().release(&name("a")).unwrap();
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    let more = text.replacen('{', "{\"unheard\":1,", 1);
    assert!(serde_json::from_str::<Record>(&more).is_err(), "{more}");
}

#[test]
fn what_is_no_record_is_refused_when_it_is_read() {
    let whole = serde_json::to_value(cluster(SYNC)).unwrap();
    assert_eq!(serde_json::from_value::<Record>(whole.clone()).unwrap(), cluster(SYNC));
    let without = |what: &str, value: serde_json::Value| {
        let mut record = whole.clone();
        *record.pointer_mut(what).unwrap() = value;
        serde_json::from_value::<Record>(record).unwrap_err().to_string()
    };
    assert_eq!(without("/terms", serde_json::json!([])), "an empty list");
    assert_eq!(without("/voters/sets", serde_json::json!([])), "an empty list");
    let set = serde_json::json!([{ "nodes": ["b"], "quorum": 2 }]);
    assert_eq!(without("/voters/sets", set), "a quorum of 2 among 1 voters");
}

#[test]
fn what_came_before_the_cluster_was_founded_belongs_to_it() {
    let log = through(&[(1, 20), (2, 50), (3, 100)]);
    let record = Record::founded(&name("a"), &log, &BTreeMap::new(), SYNC, pace()).unwrap();
    assert_eq!(record.kinship(&log), Kinship::Follows);
    assert_eq!(record.kinship(&through(&[(1, 20), (2, 50), (3, 900)])), Kinship::Follows);
    // On another timeline, or not yet on that: it is not known where it left.
    assert_eq!(record.kinship(&through(&[(1, 20), (2, 50), (4, 60)])), Kinship::Diverged);
    assert_eq!(record.kinship(&through(&[(1, 20), (2, 40)])), Kinship::Diverged);
}
