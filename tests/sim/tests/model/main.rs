//! Every order of events in small clusters, of which each says how far it goes.

mod cases;

use pgha_machine::failover::rules::{Rule, Rules};
use pgha_sim::model::{Case, Explored, explore};

fn show(explored: &Explored) {
    println!(
        "{}: {} states, {} steps, depth {}, {:.1?}, {}",
        explored.name,
        explored.states,
        explored.steps,
        explored.depth,
        explored.took,
        if explored.complete { "complete within its bounds" } else { "NOT complete" }
    );
    println!("  {}", explored.bounds);
    if let Some((property, why, steps)) = &explored.broken {
        println!("  broken: {property}: {why:?}, by {} steps: {}", steps.len(), steps.join(" "));
    }
}

fn holds(case: Case) {
    let explored = explore(case);
    show(&explored);
    assert!(explored.complete);
}

/// Without a rule the same case has a counterexample, and not only one that never goes on.
fn fails(case: Case, rule: Rule) {
    let explored = explore(Case { progress: false, rules: Rules::without(rule), ..case });
    println!("without {rule}:");
    show(&explored);
    assert!(explored.broken.is_some());
}

macro_rules! model {
    ($($test:ident: $case:ident;)*) => {
        $(#[test]
        fn $test() {
            holds(cases::$case());
        })*
    };
    ($($test:ident: $case:ident without $rule:ident;)*) => {
        $(#[test]
        fn $test() {
            fails(cases::$case(), Rule::$rule);
        })*
    };
}

model! {
    model_by_the_end_of_the_lease: by_lease;
    model_of_a_primary_that_waits_for_nobody: open;
    model_of_something_late: late;
    model_by_a_quorum: by_quorum;
    model_by_a_quorum_and_something_late: by_quorum_late;
    model_by_a_quorum_and_a_request_lost: by_quorum_lost;
    model_of_a_primary_that_comes_back: comes_back;
    model_of_the_failsafe: failsafe;
    model_of_the_failsafe_without_a_member: failsafe_alone;
    model_of_the_failsafe_and_a_restart: failsafe_restarted;
    model_of_a_change_of_voters: voters_change;
    model_of_a_change_of_voters_by_one_who_stands_still: voters_change_paused;
    model_of_a_crash: crash;
    model_of_a_crash_while_suspected: crash_suspected;
    model_of_a_lease_given_back: released;
    model_of_the_primarys_agent_restarted: agent_of_the_primary;
    model_of_the_nominees_agent_restarted: agent_of_the_nominee;
    model_of_a_controller_restarted: controller_ends;
    model_of_two_controllers_and_something_late: two_controllers_late;
    model_of_two_controllers_and_a_request_lost: two_controllers_lost;
    model_of_a_primary_cut_off: alone;
    model_of_a_primary_cut_off_and_back: alone_and_back;
    model_of_a_primary_cut_off_from_two: alone_of_three;
    model_of_a_nominee_lost: taken;
    model_of_something_old: stale;
    model_of_a_primary_relieved: relieved;
    model_of_a_standby_forced: forced;
}

model! {
    model_without_its_own_epoch: taken without S1;
    model_without_a_proof: open without S2;
    model_without_covering_the_voters: voters_change without S3;
    model_without_the_furthest_voter: by_quorum without S4;
    model_without_what_the_primary_was_known_to_have: open without S4;
    model_without_refusing_the_old: stale without S5;
    model_without_one_history: comes_back without S6;
    model_without_waiting_after_a_crash: crash without S7;
    model_without_all_grants: failsafe without S8;
}
