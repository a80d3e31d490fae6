use proptest::prelude::*;

use super::super::tests::{GOOD, NOT_IN_RECOVERY};
use super::{Down, Finding, Health};

fn bad_answer() -> Finding {
    Finding::Answered("53300".to_owned())
}

fn silence() -> Finding {
    Finding::Silent("timeout".to_owned())
}

/// The whole table at rise = fall = 2: health, finding, health after it when silence is enough.
#[test]
fn every_health_meets_every_finding() {
    let at_once = [
        (Finding::Refused, Down::Refused),
        (Finding::NotAccepting, Down::NotAccepting),
        (NOT_IN_RECOVERY, Down::NotInRecovery),
    ];
    let states = [
        Health::Unproven(0),
        Health::Unproven(1),
        Health::Up(0),
        Health::Up(1),
        Health::Down(Down::Refused, 0),
        Health::Down(Down::Failing, 1),
    ];
    for state in &states {
        for (finding, down) in &at_once {
            assert_eq!(
                state.after(finding, 2, 2, true),
                Health::Down(*down, 0),
                "{state:?} {finding:?}"
            );
            assert_eq!(
                state.after(finding, 2, 2, false),
                Health::Down(*down, 0),
                "{state:?} {finding:?}"
            );
        }
    }
    for (state, finding, after) in [
        (Health::Unproven(0), GOOD, Health::Unproven(1)),
        (Health::Unproven(1), GOOD, Health::Up(0)),
        (Health::Unproven(1), bad_answer(), Health::Unproven(0)),
        (Health::Unproven(1), silence(), Health::Unproven(0)),
        (Health::Up(1), GOOD, Health::Up(0)),
        (Health::Up(0), bad_answer(), Health::Up(1)),
        (Health::Up(1), bad_answer(), Health::Down(Down::Failing, 0)),
        (Health::Up(1), silence(), Health::Down(Down::Silent, 0)),
        (Health::Down(Down::Refused, 0), GOOD, Health::Down(Down::Unproven, 1)),
        (Health::Down(Down::Silent, 0), GOOD, Health::Down(Down::Unproven, 1)),
        (Health::Down(Down::Unproven, 1), GOOD, Health::Up(0)),
        (Health::Down(Down::Failing, 0), GOOD, Health::Down(Down::Failing, 1)),
        (Health::Down(Down::Refused, 1), GOOD, Health::Up(0)),
        (Health::Down(Down::Refused, 1), bad_answer(), Health::Down(Down::Unproven, 0)),
        (Health::Down(Down::NotAccepting, 1), bad_answer(), Health::Down(Down::NotAccepting, 0)),
        (Health::Down(Down::NotAccepting, 1), silence(), Health::Down(Down::Silent, 0)),
        (Health::Down(Down::NotInRecovery, 0), silence(), Health::Down(Down::Silent, 0)),
    ] {
        assert_eq!(state.after(&finding, 2, 2, true), after, "{state:?} {finding:?}");
    }
}

#[test]
fn silence_says_nothing_until_it_is_enough() {
    for health in [Health::Up(1), Health::Down(Down::NotAccepting, 0)] {
        assert_eq!(health.after(&silence(), 2, 3, false), health);
    }
    let almost = Health::Down(Down::NotAccepting, 1);
    assert_eq!(almost.after(&silence(), 2, 3, false), Health::Down(Down::NotAccepting, 0));
}

fn findings() -> impl Strategy<Value = Finding> {
    prop_oneof![
        Just(GOOD),
        Just(NOT_IN_RECOVERY),
        Just(Finding::Refused),
        Just(Finding::NotAccepting),
        Just(bad_answer()),
        Just(silence()),
    ]
}

proptest! {
    #[test]
    fn only_rise_good_checks_in_a_row_bring_a_server_up(
        findings in prop::collection::vec((findings(), any::<bool>()), 0..60),
        rise in 1..5u8,
        fall in 1..5u8,
    ) {
        let mut health = Health::Unproven(0);
        let mut good_in_a_row = 0;
        for (finding, others_answer) in findings {
            let before = health.clone();
            health = health.after(&finding, rise, fall, others_answer);
            good_in_a_row = if finding == GOOD { good_in_a_row + 1 } else { 0 };
            if health.is_up() && !before.is_up() {
                prop_assert!(good_in_a_row >= rise);
            }
            if health.is_dead() && !before.is_dead() {
                let evidence = finding == Finding::Refused
                    || (matches!(finding, Finding::Silent(_)) && others_answer);
                prop_assert!(evidence, "dead by {finding:?}");
            }
        }
    }
}
