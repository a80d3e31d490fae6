//! Schedules drawn from seeds: the rules hold in all of them, and without any one of them they do not.
//!
//! `PGHA_SEED=n` plays one schedule and tells what happens in it; `PGHA_WITHOUT=S3` does so without a rule.
//! `PGHA_SCHEDULES` and `PGHA_FROM` choose how many are played, and from which seed on.

use std::env;

use pgha_machine::failover::rules::{Rule, Rules};
use pgha_sim::{Breach, Campaign, Plan, Violation, run};

/// How many schedules show that the rules hold.
const SCHEDULES: u64 = 100_000;
/// Of how many one must show that a rule is needed.
const WITHOUT: u64 = 30_000;
/// Seeds that once failed.
const FAILED_ONCE: [u64; 9] = [4_430, 5_879, 9_265, 14_220, 18_380, 19_830, 33_252, 45_466, 90_057];

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn sim_the_rules_hold() {
    let from = number("PGHA_FROM").unwrap_or(1);
    let count = number("PGHA_SCHEDULES").unwrap_or(SCHEDULES);
    for seed in FAILED_ONCE {
        let outcome = run(&Plan::of(seed, Rules::default()), false);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
    let campaign =
        Campaign::play(from..from + count, |seed| Plan::of(seed, Rules::default()), 10, |_| true);
    println!("{campaign}");
    assert_eq!(campaign.failures, [], "PGHA_SEED=<seed> tells how it came to that");
    assert_eq!(campaign.distinct() as u64, count, "a schedule was played twice");
    let (events, steps) = (campaign.coverage.missing_events(), campaign.coverage.missing_steps());
    println!("never met: {events:?} {steps:?}");
    if count >= SCHEDULES {
        assert_eq!(steps, []);
        let unmet = campaign.coverage.missing_standings();
        assert!(unmet.iter().all(|pair| RARE.contains(pair)), "never met: {unmet:?}");
    }
}

/// Who is nominated is frozen, unless its agent was restarted in that moment.
const RARE: [(&str, &str); 3] =
    [("standby", "nominee"), ("restarted", "nominee"), ("primary", "nominee")];

#[test]
fn sim_each_rule_is_needed() {
    for rule in Rule::ALL {
        // That nothing goes on would be no harm to the data.
        let harm = |violation: &Violation| *violation != Violation::NoProgress;
        let campaign =
            Campaign::play(1..WITHOUT, |seed| Plan::of(seed, Rules::without(rule)), 1, harm);
        let Some((seed, violation)) = campaign.failures.first() else {
            panic!("nobody misses {rule} in {} schedules", campaign.schedules);
        };
        println!("without {rule}: {violation} in schedule {seed}, one of {}", campaign.schedules);
    }
}

/// What the oracle must say when the world breaks its word like that.
const fn is_told_by(breach: Breach, violation: &Violation) -> bool {
    match breach {
        Breach::EarlyVoters => matches!(violation, Violation::Unannounced { .. }),
        Breach::WaitsForNobody => matches!(violation, Violation::TooFew { .. }),
        Breach::OpenGate | Breach::LyingDevice | Breach::EarlyEnd => {
            matches!(violation, Violation::Overlap { .. })
        }
        Breach::EarlyClients => matches!(violation, Violation::SeenAlone { .. }),
        Breach::LongLog => matches!(violation, Violation::LostTooMuch { .. }),
        Breach::Forgets => matches!(violation, Violation::Torn { .. }),
        Breach::EarlyStop => matches!(violation, Violation::Lost { .. }),
        Breach::KeptAddress => matches!(violation, Violation::TwoAddresses { .. }),
    }
}

#[test]
fn sim_each_breach_is_noticed() {
    for breach in Breach::ALL {
        let plan = |seed| Plan::of(seed, Rules::default()).with(breach);
        let told = |violation: &Violation| is_told_by(breach, violation);
        let campaign = Campaign::play(1..WITHOUT, plan, 1, told);
        let Some((seed, violation)) = campaign.failures.first() else {
            panic!("nobody notices {breach:?} in {} schedules", campaign.schedules);
        };
        println!("with {breach:?}: {violation} in schedule {seed}, one of {}", campaign.schedules);
    }
}

#[test]
fn sim_one_schedule() {
    let Some(seed) = number("PGHA_SEED") else { return };
    let rules = env::var("PGHA_WITHOUT").map_or_else(
        |_| Rules::default(),
        |name| {
            let named = Rule::ALL.into_iter().find(|rule| rule.to_string() == name);
            Rules::without(named.unwrap_or_else(|| panic!("{name} is no rule")))
        },
    );
    let plan = Plan::of(seed, rules);
    println!("{plan:#?}");
    let outcome = run(&plan, true);
    println!("{} commits acknowledged, epoch {}", outcome.acknowledged, outcome.epoch);
    assert_eq!(outcome.violation, None);
}
