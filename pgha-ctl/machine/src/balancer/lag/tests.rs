use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::event::SyncState;
use super::*;

const MIB: u64 = 1 << 20;

fn at(second: u64) -> Moment {
    Moment::new(second * 1_000)
}

fn standby(replayed: u64) -> Standby {
    Standby { replayed: Some(Lsn::new(replayed)), ..Standby::default() }
}

/// A primary that wrote 100 bytes each second until `last`.
fn written(last: u64) -> Written {
    let mut written = Written::default();
    (0..=last).for_each(|second| written.note(at(second), Lsn::new(100 * (second + 1))));
    written
}

fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}

#[test]
fn lag_is_measured_by_when_the_missing_wal_was_seen_first() {
    let written = written(9);
    for (replayed, bytes, time) in [
        (1_000, 0, seconds(0)),
        (2_000, 0, seconds(0)),
        (999, 1, seconds(1)),
        (900, 100, seconds(1)),
        (850, 150, seconds(2)),
        (100, 900, seconds(9)),
    ] {
        let lag = written.measure(at(10), &standby(replayed), None);
        assert_eq!(lag, Lag { bytes: Some(bytes), time }, "{replayed}");
    }
    assert_eq!(written.measure(at(10), &Standby::default(), None), Lag::default());
    let nothing = Written::default();
    assert_eq!(nothing.measure(at(10), &standby(5), None), Lag::default());
}

#[test]
fn a_primary_that_writes_nothing_makes_nobody_lag() {
    let mut written = written(0);
    for hour in 1..10 {
        written.note(at(hour * 3_600), Lsn::new(100));
        let idle = Standby { age: seconds(hour * 3_600), ..standby(100) };
        let lag = written.measure(at(hour * 3_600), &idle, None);
        assert_eq!(lag, Lag { bytes: Some(0), time: seconds(0) });
    }
    // The first write after that does not make it hours late either.
    written.note(at(36_000), Lsn::new(200));
    let lag = written.measure(at(36_001), &standby(100), None);
    assert_eq!(lag, Lag { bytes: Some(100), time: seconds(1) });
}

#[test]
fn what_was_before_this_controller_others_must_tell() {
    let written = written(5);
    let walsender = |replay_lag| Walsender {
        address: Ipv4Addr::LOCALHOST.into(),
        sync_state: SyncState::Async,
        replay_lag,
        replayed: None,
    };
    let old = Standby { age: seconds(70), ..standby(50) };
    for (told, standby, time) in [
        (seconds(60), &old, seconds(60)),
        (None, &old, seconds(70)),
        // At least as long as it was seen.
        (seconds(2), &old, seconds(6)),
        (None, &Standby { age: None, ..old.clone() }, None),
    ] {
        let lag = written.measure(at(6), standby, Some(&walsender(told)));
        assert_eq!(lag, Lag { bytes: Some(550), time }, "{told:?}");
    }
}

#[test]
fn old_things_are_remembered_less_exactly() {
    let written = written(100_000);
    assert!(written.samples.len() <= SAMPLES, "{}", written.samples.len());
    let lag = written.measure(at(100_000), &standby(100 * 99_990), None);
    assert_eq!(lag.time, seconds(10));
    let hour = written.measure(at(100_000), &standby(100 * 96_400), None).time.unwrap();
    assert!((3_000..=3_600).contains(&hour.as_secs()), "{hour:?}");
    let day = written.measure(at(100_000), &standby(100 * 13_600), None).time.unwrap();
    assert!((72_000..=86_400).contains(&day.as_secs()), "{day:?}");
}

#[test]
fn a_standby_alone_is_late_by_its_own_word() {
    let own = |receiving, received, replayed| {
        by_itself(&Standby {
            receiving,
            received: Some(Lsn::new(received)),
            age: seconds(9),
            ..standby(replayed)
        })
    };
    assert_eq!(own(true, 5, 5).time, seconds(0));
    assert_eq!(own(true, 6, 5).time, seconds(9));
    assert_eq!(own(false, 5, 5).time, seconds(9));
}

/// The whole table: each measure beyond, between, within and unknown, before it lagged and after.
#[test]
fn a_server_drains_above_one_edge_and_returns_below_the_other() {
    let bytes = Some(Limit { drain: 16 * MIB, back: 8 * MIB });
    let time = Some(Limit { drain: Duration::from_secs(10), back: Duration::from_secs(5) });
    let both = LagLimits { bytes, time };
    let measures = |edges: [u64; 3]| [None, Some(edges[0]), Some(edges[1]), Some(edges[2])];
    let sizes = measures([8 * MIB, 8 * MIB + 1, 16 * MIB + 1]);
    let times = measures([5, 6, 11]);
    for (size, bytes_lag) in sizes.into_iter().enumerate() {
        for (age, time_lag) in times.into_iter().enumerate() {
            let lag = Lag { bytes: bytes_lag, time: time_lag.map(Duration::from_secs) };
            let beyond = size == 3 || age == 3;
            assert_eq!(both.lagging(lag, false), beyond, "{lag:?}");
            let within = size == 1 && age == 1;
            assert_eq!(both.lagging(lag, true), !within, "{lag:?}");
            // A limit that is not set asks for nothing.
            let only = LagLimits { bytes, time: None };
            assert_eq!(only.lagging(lag, false), size == 3, "{lag:?}");
            assert_eq!(only.lagging(lag, true), size != 1, "{lag:?}");
            assert!(!LagLimits::default().lagging(lag, true), "{lag:?}");
        }
    }
}

#[test]
fn lag_takes_weight_in_proportion() {
    let bytes = Some(Limit { drain: 1_000, back: 500 });
    let time = Some(Limit { drain: Duration::from_secs(10), back: Duration::ZERO });
    let limits = LagLimits { bytes, time };
    for (bytes, time, part) in [
        (Some(0), seconds(0), 1_000),
        (None, None, 1_000),
        (Some(500), seconds(0), 550),
        (Some(0), seconds(5), 550),
        (Some(500), seconds(9), 190),
        (Some(1_000), None, 100),
        (Some(u64::MAX), None, 100),
        (None, Some(Duration::MAX), 100),
    ] {
        assert_eq!(limits.part(Lag { bytes, time }), part, "{bytes:?} {time:?}");
    }
    assert_eq!(LagLimits::default().part(Lag { bytes: Some(9), time: seconds(9) }), 1_000);
}

proptest! {
    /// A value that stays on one side of both edges changes the verdict once at most.
    #[test]
    fn a_lag_that_hovers_about_one_edge_moves_nobody_to_and_fro(
        drain in 1..1_000u64, back_share in 0..=100u64,
        about_drain: bool, offsets in prop::collection::vec(0..1_000u64, 1..40),
    ) {
        let back = drain * back_share / 100;
        let limits = LagLimits { bytes: Some(Limit { drain, back }), time: None };
        let (mut lagging, mut changes) = (false, 0);
        for offset in offsets {
            // Never at or below the lower edge, or never above the upper one.
            let bytes = if about_drain { back + 1 + offset } else { offset.min(drain) };
            let now = limits.lagging(Lag { bytes: Some(bytes), time: None }, lagging);
            changes += u32::from(now != lagging);
            lagging = now;
        }
        prop_assert!(changes <= 1);
    }
}
