use std::time::Duration;

use super::*;
use crate::failover::fixture::{RUN, SYNC, cluster, frozen, name};
use crate::{Epoch, Lsn};

const START: Moment = Moment::new(1_000);
const EVERY: Duration = Duration::from_millis(250);

const fn mark(revision: u64) -> Mark {
    Mark { incarnation: 1, revision }
}

fn reading(revision: u64, record: &Record) -> Option<Reading> {
    Some(Reading { mark: mark(revision), record: Some(Box::new(record.clone())) })
}

/// The record that the primary has renewed so often.
fn renewed(times: u64) -> Record {
    let renew = |record: Record, _| record.renew(&name("a"), RUN, Lsn::new(100)).unwrap();
    (0..times).fold(cluster(SYNC), renew)
}

/// A desk that has read revision 5.
fn desk() -> Desk {
    let mut desk = Desk::new(None, Progress::default(), Rules::default());
    assert_eq!(desk.poll(START, EVERY), Some(Request::Read));
    desk.read(START, reading(5, &renewed(0)), true);
    desk
}

/// One that writes a renewal.
fn writing() -> Desk {
    let mut desk = desk();
    let put = desk.put(START, renewed(1)).unwrap();
    assert_eq!(put, Request::Put { expected: mark(5), record: Box::new(renewed(1)) });
    desk
}

#[test]
fn nothing_is_written_before_it_has_read() {
    let mut desk = Desk::new(Some(mark(5)), Progress::default(), Rules::default());
    assert_eq!((desk.record(), desk.seen(), desk.reachable()), (None, Some(mark(5)), None));
    assert_eq!(desk.put(START, renewed(1)), None);
    assert_eq!(desk.poll(START, EVERY), Some(Request::Read));
    // One request at a time.
    assert_eq!(desk.poll(START + EVERY * 9, EVERY), None);
    assert_eq!(desk.put(START, renewed(1)), None);
    desk.read(START, reading(5, &renewed(0)), true);
    assert!(desk.is_ready() && desk.reachable() == Some(true));
}

#[test]
fn it_reads_again_in_time() {
    let mut desk = desk();
    assert_eq!(desk.due(EVERY), Some(START + EVERY));
    assert_eq!(desk.poll(Moment::new(1_249), EVERY), None);
    assert_eq!(desk.poll(Moment::new(1_250), EVERY), Some(Request::Read));
    desk.read(Moment::new(1_260), reading(5, &renewed(0)), true);
    // At once, where somebody has seen a newer state or it has a doubt.
    desk.outdated_by(5);
    assert!(desk.is_ready());
    desk.outdated_by(6);
    assert!(!desk.is_ready() && desk.put(START, renewed(1)).is_none());
    assert_eq!(desk.poll(Moment::new(1_261), EVERY), Some(Request::Read));
    desk.read(Moment::new(1_270), reading(6, &renewed(1)), true);
    desk.doubt();
    assert_eq!(desk.poll(Moment::new(1_271), EVERY), Some(Request::Read));
}

#[test]
fn a_store_that_does_not_answer_is_not_asked_without_end() {
    let mut desk = desk();
    let now = START + EVERY;
    assert_eq!(desk.poll(now, EVERY), Some(Request::Read));
    desk.read(now, None, true);
    // What was read stays what is known, and nothing is written by it.
    assert_eq!((desk.record(), desk.reachable()), (Some(&renewed(0)), Some(false)));
    assert_eq!(desk.put(now, renewed(1)), None);
    assert_eq!(desk.poll(now, EVERY), None);
    assert_eq!(desk.poll(now + EVERY, EVERY), Some(Request::Read));
}

#[test]
fn a_write_that_is_there_is_what_was_read() {
    let mut desk = writing();
    assert_eq!(desk.writing(), Some(&renewed(1)));
    let now = START + EVERY;
    assert_eq!(desk.written(now, Written::Done(6)), Some((START, renewed(1))));
    assert_eq!((desk.record(), desk.seen()), (Some(&renewed(1)), Some(mark(6))));
    assert!(desk.is_ready() && desk.writing().is_none());
    assert_eq!(desk.due(EVERY), Some(now + EVERY));
}

#[test]
fn a_write_that_is_there_does_not_hide_what_came_after() {
    let mut desk = writing();
    desk.read(START, reading(7, &renewed(2)), false);
    // The answer is late, and it is true nevertheless.
    assert_eq!(desk.written(START, Written::Done(6)), Some((START, renewed(1))));
    assert_eq!((desk.record(), desk.seen()), (Some(&renewed(2)), Some(mark(7))));
    assert_eq!(desk.written(START, Written::Done(8)), None);
}

#[test]
fn after_an_answer_that_tells_nothing_it_reads() {
    for (written, reachable) in
        [(Written::Conflict, true), (Written::Failed, false), (Written::Unknown, false)]
    {
        let mut desk = writing();
        let now = START + EVERY / 2;
        assert_eq!(desk.written(now, written), None);
        assert_eq!((desk.record(), desk.reachable()), (Some(&renewed(0)), Some(reachable)));
        assert!(!desk.is_ready() && desk.put(now, renewed(1)).is_none(), "{written:?}");
        // A store that answers is asked at once, another in a while.
        let at = if reachable { now } else { now + EVERY };
        assert_eq!(desk.poll(at, EVERY), Some(Request::Read), "{written:?}");
        desk.read(at, reading(6, &renewed(1)), true);
        assert!(desk.is_ready());
    }
}

#[test]
fn s5_an_older_state_and_another_store_are_refused() {
    let other =
        Reading { mark: Mark { incarnation: 2, revision: 9 }, record: Some(Box::new(renewed(3))) };
    for refused in [reading(4, &renewed(3)), Some(other)] {
        let mut desk = desk();
        desk.read(START, refused.clone(), false);
        assert_eq!((desk.record(), desk.seen()), (Some(&renewed(0)), Some(mark(5))));
        assert_eq!(desk.reachable(), Some(true));
        // Asked for, it is no answer to rely on.
        assert!(desk.poll(START + EVERY, EVERY).is_some());
        desk.read(START + EVERY, refused, true);
        assert_eq!((desk.record(), desk.seen()), (Some(&renewed(0)), Some(mark(5))));
        assert_eq!(desk.reachable(), Some(false));
    }
    // Also where it was seen before the start.
    let mut desk = Desk::new(Some(mark(5)), Progress::default(), Rules::default());
    desk.poll(START, EVERY);
    desk.read(START, reading(4, &renewed(3)), true);
    assert_eq!((desk.record(), desk.reachable()), (None, Some(false)));
}

#[test]
fn a_lower_epoch_is_refused_whatever_its_revision_says() {
    let mut desk =
        Desk::new(None, Progress { epoch: Epoch::new(2), ..Progress::default() }, Rules::default());
    // Of a store that was restored, and has counted on since.
    desk.read(START, reading(900, &renewed(0)), true);
    assert_eq!((desk.record(), desk.reachable()), (None, Some(false)));
    let record = Record { epoch: Epoch::new(2), ..renewed(0) };
    desk.read(START, reading(5, &record), true);
}

#[test]
fn what_has_come_less_far_is_refused_whatever_its_revision_says() {
    // Of a store that was put back, and has counted on since: a renewal, a freeze less than was seen before.
    let kept = frozen(&renewed(3)).progress();
    let refused = |record: &Record| {
        let mut desk = Desk::new(Some(mark(5)), kept, Rules::default());
        desk.poll(START, EVERY);
        desk.read(START, reading(900, record), true);
        desk.record().is_none()
    };
    assert!(refused(&renewed(3)) && refused(&frozen(&renewed(2))));
    assert!(!refused(&frozen(&renewed(3))) && !refused(&frozen(&renewed(4))));
    // In the same process, too.
    let mut desk = desk();
    desk.read(START, reading(6, &renewed(2)), false);
    desk.read(START, reading(7, &renewed(1)), false);
    assert_eq!((desk.record(), desk.seen()), (Some(&renewed(2)), Some(mark(6))));
}
