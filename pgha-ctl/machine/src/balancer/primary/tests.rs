use proptest::prelude::*;

use super::*;

const fn on(timeline: u32) -> Claim {
    Claim { timeline: Some(Timeline::new(timeline)), system: Some(7) }
}

const fn of_system(system: u64) -> Claim {
    Claim { timeline: Some(Timeline::new(1)), system: Some(system) }
}

const UNKNOWN: Claim = Claim { timeline: None, system: None };

fn nobody(stale: &[usize]) -> Choice {
    Choice::Nobody { stale: stale.to_vec() }
}

fn one(primary: usize, stale: &[usize]) -> Choice {
    Choice::One { primary, stale: stale.to_vec() }
}

#[test]
fn the_one_on_the_newest_timeline_is_the_primary() {
    let several = |claims: &[usize]| Choice::Several(claims.to_vec());
    for (claims, before, wanted) in [
        (&[][..], None, nobody(&[])),
        (&[], Some(on(3)), nobody(&[])),
        (&[on(1)], None, one(0, &[])),
        (&[on(1), on(2)], None, one(1, &[0])),
        (&[on(3), on(1), on(2)], None, one(0, &[1, 2])),
        // Two on the same timeline: also when a third is on an older one.
        (&[on(2), on(2)], None, several(&[0, 1])),
        (&[on(2), on(1), on(2)], None, several(&[0, 2])),
        // The one of before does not help to choose among equals.
        (&[on(2), on(2)], Some(on(2)), several(&[0, 1])),
        // A former primary is back while the new one is away.
        (&[on(1)], Some(on(2)), nobody(&[0])),
        (&[on(2)], Some(on(2)), one(0, &[])),
        (&[on(3)], Some(on(2)), one(0, &[])),
        // Another cluster at the same hosts.
        (&[of_system(1), of_system(2)], None, several(&[0, 1])),
        (&[Claim { system: Some(9), ..on(5) }, on(1)], None, several(&[0, 1])),
        (&[of_system(8)], Some(on(4)), one(0, &[])),
        // Nothing is known: two are two.
        (&[UNKNOWN], None, one(0, &[])),
        (&[UNKNOWN], Some(on(4)), one(0, &[])),
        (&[UNKNOWN, on(4)], None, several(&[0, 1])),
        (&[UNKNOWN, on(4), on(3)], None, several(&[0, 1])),
        (&[Claim { system: None, ..on(2) }, on(1)], None, one(0, &[1])),
    ] {
        assert_eq!(choose(claims, before), wanted, "{claims:?} after {before:?}");
    }
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let timeline = prop::option::of((1..4u32).prop_map(Timeline::new));
    let system = prop::option::weighted(0.8, 1..3u64);
    let claim = (timeline, system).prop_map(|(timeline, system)| Claim { timeline, system });
    prop::collection::vec(claim, 0..5)
}

proptest! {
    /// Whoever comes first in the list is no better for it.
    #[test]
    fn the_order_of_the_hosts_decides_nothing(mut claims in claims(), before in claims()) {
        let before = before.first().copied();
        let places = |choice: Choice, last: usize| {
            let turned = |of: Vec<usize>| {
                let mut of: Vec<_> = of.into_iter().map(|place| last - place).collect();
                of.sort_unstable();
                of
            };
            match choice {
                Choice::Nobody { stale } => Choice::Nobody { stale: turned(stale) },
                Choice::One { primary, stale } => {
                    Choice::One { primary: last - primary, stale: turned(stale) }
                }
                Choice::Several(of) => Choice::Several(turned(of)),
            }
        };
        let forward = choose(&claims, before);
        claims.reverse();
        let backward = choose(&claims, before);
        prop_assert_eq!(forward, places(backward, claims.len().saturating_sub(1)));
    }

    /// A primary is never on an older timeline of its system than anybody known.
    #[test]
    fn no_primary_is_older_than_another_or_the_one_before(claims in claims(), before in claims()) {
        let before = before.first().copied();
        if let Choice::One { primary, .. } = choose(&claims, before) {
            let chosen = claims[primary];
            for other in claims.iter().chain(&before) {
                let same = chosen.system.is_some() && chosen.system == other.system;
                let known = chosen.timeline.zip(other.timeline);
                prop_assert!(!same || known.is_none_or(|(own, other)| own >= other));
            }
        }
    }
}
