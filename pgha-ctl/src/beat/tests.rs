use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(1);

#[test]
fn a_hundred_servers_are_of_few_moments_and_each_comes_once_an_interval() {
    let origin = Instant::now();
    let beats = Beats::since(origin, INTERVAL);
    let mut moments = BTreeSet::new();
    for turn in 0..100 {
        // Each of them is a little late, always.
        let first = beats.next(turn, origin + Duration::from_millis(7));
        let second = beats.next(turn, first + Duration::from_micros(900));
        assert_eq!(second - first, INTERVAL);
        assert!(moments.insert(first) || turn >= Beats::A_ROUND);
    }
    assert_eq!(moments.len(), 10);
}

proptest! {
    #[test]
    fn nothing_is_done_too_soon_or_too_late(
        interval in 1..10_000_000u64,
        passed in 0..100_000_000_000u64,
        turn: u32,
    ) {
        let (origin, interval) = (Instant::now(), Duration::from_micros(interval));
        let beats = Beats::since(origin, interval);
        let moment = origin + Duration::from_micros(passed);
        let after = beats.next(turn, moment) - moment;
        prop_assert!(after >= interval / 2 && after <= interval * 3 / 2, "{after:?} of {interval:?}");
    }
}
