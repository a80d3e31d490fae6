use std::time::Duration;

use super::{Outcome, Tier, cargo, in_order, summary};
use crate::exec::command_line;
use crate::workspace::Workspace;

#[test]
fn no_name_means_every_tier() {
    assert_eq!(in_order(&[]), [Tier::Lint, Tier::Unit, Tier::Sim, Tier::Xdp, Tier::Netns]);
}

#[test]
fn named_tiers_run_once_each_and_the_quickest_first() {
    assert_eq!(in_order(&[Tier::Netns, Tier::Unit, Tier::Netns]), [Tier::Unit, Tier::Netns]);
}

#[test]
fn only_what_enters_the_kernel_needs_root() {
    let privileged: Vec<_> = in_order(&[]).into_iter().filter(|tier| tier.needs_root()).collect();
    assert_eq!(privileged, [Tier::Xdp, Tier::Netns]);
}

#[test]
fn the_filter_reaches_the_test_binary() {
    let workspace = Workspace::find().unwrap();
    let [call] = Tier::Netns.cargo_calls() else { panic!("netns is one call") };
    let line = command_line(&cargo(&workspace, call, &["failover".to_owned()]));
    assert!(line.ends_with("test -p pgha-tests --test netns -- --test-threads=2 failover"));
}

#[test]
fn the_summary_has_a_line_for_each_tier() {
    let outcomes = [
        Outcome {
            tier: Tier::Lint,
            passed: true,
            skipped: Vec::new(),
            took: Duration::from_millis(12_340),
        },
        Outcome {
            tier: Tier::Netns,
            passed: false,
            skipped: Vec::new(),
            took: Duration::from_secs(100),
        },
    ];
    assert_eq!(
        summary(&outcomes),
        "\n\
         tier    result          time\n\
         lint    passed        12.3 s\n\
         netns   FAILED       100.0 s\n"
    );
}

#[test]
fn the_summary_names_what_was_skipped() {
    let skipped = vec!["a_test: there is no browser".to_owned()];
    let outcome =
        Outcome { tier: Tier::Netns, passed: true, skipped, took: Duration::from_secs(100) };
    assert_eq!(
        summary(&[outcome]),
        "\n\
         tier    result          time\n\
         netns   passed       100.0 s\n\
         \n\
         SKIPPED, so that nobody knows: 1\n    \
             a_test: there is no browser\n"
    );
}
