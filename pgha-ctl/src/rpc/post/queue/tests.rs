use pgha_machine::Epoch;
use pgha_machine::failover::message::{Message, Report};

use super::*;

fn report(epoch: u64) -> Message {
    Message::Report(Report { epoch: Epoch::new(epoch), ..Report::default() })
}

fn ask(number: u64) -> Message {
    Message::Ask { epoch: Epoch::new(1), run: 1, number }
}

#[test]
fn the_last_report_is_the_only_one_and_waits_for_questions() {
    let mut queue = Queue::default();
    queue.push(report(1));
    queue.push(ask(1));
    queue.push(report(2));
    assert_eq!(queue.pop(), Some(ask(1)));
    assert_eq!(queue.pop(), Some(report(2)));
    assert_eq!(queue.pop(), None);
    assert!(queue.is_empty());
}

#[test]
fn the_oldest_makes_room() {
    let mut queue = Queue::default();
    let count = MOST as u64 + 3;
    (0..count).for_each(|number| queue.push(ask(number)));
    let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(taken, (3..count).map(ask).collect::<Vec<_>>());
}
