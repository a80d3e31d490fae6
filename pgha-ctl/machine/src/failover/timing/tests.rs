use proptest::prelude::*;

use super::*;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn timings(profile: Profile) -> Timings {
    Wanted::from(profile).judge().unwrap()
}

#[test]
fn the_profiles_are_what_the_rules_say() {
    let told = Profile::ALL.map(|profile| {
        let of = timings(profile);
        (of.duration(), of.renew_every(), of.drop_after(), of.proven_after(), of.watchdog_timeout())
    });
    assert_eq!(
        told,
        [
            (ms(1000), ms(250), ms(600), ms(1060), None),
            (ms(2000), ms(500), ms(1200), ms(2070), None),
            (ms(5000), ms(1250), ms(3000), ms(5100), Some(ms(2000))),
        ]
    );
    assert_eq!(Profile::ALL.map(|profile| timings(profile).watchdog()), [false, false, true]);
    assert_eq!(Timings::default(), timings(Profile::Default));
}

#[test]
fn a_lease_that_is_given_takes_the_rest_with_it() {
    let wanted = Wanted { duration: Some(ms(3000)), ..Profile::Fast.into() };
    let given = wanted.judge().unwrap();
    assert_eq!((given.renew_every(), given.drop_after()), (ms(750), ms(1800)));
    assert_eq!((given.patience(), given.longest_request()), (ms(6000), ms(1050)));
}

#[test]
fn nothing_is_rounded_to_the_unsafe_side() {
    // 500,000,001 ns: no hundredth, no quarter and no fifth of it is whole.
    let odd = Duration::from_nanos(500_000_001);
    let wanted = Wanted { duration: Some(odd), ..Profile::Fast.into() };
    let given = wanted.judge().unwrap();
    assert_eq!(given.proven_after(), Duration::from_nanos(505_000_002) + ms(50));
    assert_eq!(given.renew_every(), Duration::from_nanos(125_000_000));
    assert_eq!(given.drop_after(), Duration::from_nanos(300_000_000));
}

#[test]
fn each_rule_is_told_with_both_values() {
    let of = Wanted::from(Profile::Default);
    for (wanted, field, told) in [
        (
            Wanted { duration: Some(ms(499)), ..of },
            Field::Duration,
            "499ms is no time for a lease; give 500ms to 60s",
        ),
        (
            Wanted { duration: Some(ms(60_001)), ..of },
            Field::Duration,
            "60.001s is no time for a lease; give 500ms to 60s",
        ),
        (
            Wanted { renew_every: Some(ms(19)), ..of },
            Field::RenewEvery,
            "19ms is too often for a store that writes each renewal to disk; give at least 20ms",
        ),
        (
            Wanted { renew_every: Some(ms(601)), ..of },
            Field::RenewEvery,
            "601ms is too rarely: one lost renewal would stop PostgreSQL, which is dropped after 1.2s; give at most 600ms",
        ),
        (
            Wanted { drop_after: Some(ms(1601)), ..of },
            Field::DropAfter,
            "1.601s leaves too little of a lease of 2s to stop PostgreSQL in; give at most 1.6s",
        ),
        (
            // A fifth of it would be less than it takes to stop.
            Wanted { duration: Some(ms(500)), drop_after: Some(ms(351)), ..of },
            Field::DropAfter,
            "351ms leaves too little of a lease of 500ms to stop PostgreSQL in; give at most 350ms",
        ),
        (
            Wanted { watchdog: Some(true), ..of },
            Field::Watchdog,
            "a watchdog counts whole seconds, and a lease of 2s that is dropped after 1.2s leaves it none; make the lease longer, drop it sooner, or do without",
        ),
    ] {
        let wrong = wanted.judge().unwrap_err();
        let all: Vec<_> = wrong.iter().map(|one| (one.field(), one.to_string())).collect();
        assert_eq!(all, [(field, told.to_owned())]);
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let wanted = Wanted {
        renew_every: Some(ms(1900)),
        drop_after: Some(ms(2000)),
        watchdog: Some(true),
        ..Profile::Default.into()
    };
    let wrong: Vec<_> = wanted.judge().unwrap_err().iter().map(Unsafe::field).collect();
    assert_eq!(wrong, [Field::DropAfter, Field::RenewEvery, Field::Watchdog]);
}

fn some(longest: u64) -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((0..longest).prop_map(Duration::from_nanos))
}

proptest! {
    /// Whatever is accepted ends on its holder's side before it ends on anybody else's, clocks that run a hundredth
    /// apart included.
    #[test]
    fn what_is_accepted_ends_with_its_holder_first(
        profile in prop::sample::select(&Profile::ALL[..]),
        duration in some(70_000_000_000),
        renew_every in some(30_000_000_000),
        drop_after in some(60_000_000_000),
        watchdog in prop::option::of(any::<bool>()),
    ) {
        let wanted = Wanted { profile, duration, renew_every, drop_after, watchdog };
        let Ok(accepted) = wanted.judge() else { return Ok(()) };
        let lease = accepted.duration();
        prop_assert!(accepted.renew_every() * 2 <= accepted.drop_after());
        prop_assert!(accepted.drop_after() + TO_STOP <= lease);
        // The holder's clock runs at 1 / 1.01 of the observer's.
        prop_assert!(accepted.proven_after() * 100 >= lease * 101 + ms(50) * 100);
        prop_assert!(accepted.renew_every() + accepted.longest_request() <= accepted.drop_after());
        if accepted.watchdog() {
            let timeout = accepted.watchdog_timeout().unwrap();
            prop_assert!(timeout.subsec_nanos() == 0 && !timeout.is_zero());
            prop_assert!(accepted.drop_after() + timeout <= lease);
        }
    }
}
