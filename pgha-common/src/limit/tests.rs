use proptest::prelude::*;

use super::{Limit, SECOND};

#[test]
fn a_burst_is_admitted_and_then_one_at_a_time() {
    let limit = Limit::new(10, 3);
    let mut due = 0;
    for _ in 0..3 {
        due = limit.admit(due, SECOND).unwrap();
    }
    assert_eq!(limit.admit(due, SECOND), None);
    assert_eq!(limit.admit(due, SECOND + SECOND / 10 - 1), None);
    assert!(limit.admit(due, SECOND + SECOND / 10).is_some());
}

proptest! {
    #[test]
    fn no_more_than_the_rate_and_one_burst_are_admitted(
        rate in 1..100_000u32,
        burst in 1..1000u32,
        pauses in prop::collection::vec(0..SECOND / 100, 1..400),
    ) {
        let limit = Limit::new(rate, burst);
        let (mut now, mut due, mut admitted) = (SECOND, 0, 0u64);
        for pause in pauses {
            now += pause;
            if let Some(next) = limit.admit(due, now) {
                due = next;
                admitted += 1;
            }
        }
        let granted = u64::from(burst) + (now - SECOND) / limit.interval;
        prop_assert!(admitted <= granted + 1, "{admitted} of {granted}");
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused(rate in 1..100_000u32, count in 1..200u32) {
        let limit = Limit::new(rate, 1);
        let mut due = 0;
        for turn in 0..u64::from(count) {
            due = limit.admit(due, SECOND + turn * limit.interval).unwrap();
        }
    }
}
