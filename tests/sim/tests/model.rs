//! Every order of events in small clusters, of which each says how far it goes.

use pgha_machine::failover::record::Mode;
use pgha_machine::failover::rules::{Rule, Rules};
use pgha_sim::model::{Case, Explored, Fault, explore};

/// One primary and one standby that it waits for. The machine of the primary is lost, or another controller
/// suspects it wrongly; only the end of the lease is a proof.
///
/// Not covered: what is lost comes back only at the horizon, and faults begin at the beginning.
fn by_lease() -> Case {
    Case {
        name: "a primary and a standby, by the end of the lease",
        nodes: 2,
        mode: Mode::Sync { quorum: 1, max_lag: 0 },
        voters: 1,
        by_lease_only: true,
        restarts: 1,
        rules: Rules::default(),
        faults: vec![Fault::Off(0), Fault::Suspicion],
        when: (0, 0),
        mended: None,
        writes: 1,
        late: 0,
        lost: 0,
        horizon: 1500,
    }
}

/// The same, where commits wait for nobody: the end of the lease alone keeps two from writing.
fn open() -> Case {
    Case {
        name: "a primary that waits for nobody, and a standby",
        mode: Mode::Async { max_lag: 1_000 },
        voters: 0,
        by_lease_only: false,
        faults: vec![Fault::Paused(0), Fault::Suspicion],
        ..by_lease()
    }
}

/// The same, and one thing that is under way comes at any later time.
///
/// Not covered: a suspicion before the end of the lease, and clients that write.
fn late() -> Case {
    Case {
        name: "a primary that waits for nobody, and something is late",
        faults: vec![Fault::Paused(0)],
        late: 1,
        writes: 0,
        horizon: 1_200,
        ..open()
    }
}

/// A primary that waits for any one of two standbys stands still, while PostgreSQL goes on: the frozen voters
/// are the proof.
///
/// Not covered: from the moment when the voters are frozen (the horizon) one order of events is followed.
fn by_quorum() -> Case {
    Case {
        name: "a primary that stands still, and any 1 of 2 standbys",
        nodes: 3,
        mode: Mode::Strict { quorum: 1 },
        voters: 2,
        by_lease_only: false,
        faults: vec![Fault::Paused(0)],
        when: (0, 0),
        horizon: 500,
        ..by_lease()
    }
}

/// The store is gone, and back at another moment for each; the primary goes on by what its only member grants,
/// and the member is nominated as soon as that may be.
///
/// Not covered: that the store stays away longer than 300 ms, and a standby that is waited for.
fn failsafe() -> Case {
    Case {
        name: "a primary without the store, and its only member",
        mode: Mode::Async { max_lag: 1_000 },
        voters: 0,
        by_lease_only: false,
        faults: vec![Fault::Store, Fault::StoreOf(0)],
        when: (0, 0),
        mended: Some((0, 300)),
        writes: 0,
        horizon: 1_500,
        ..by_lease()
    }
}

/// A second standby becomes a voter, and the primary dies at any point of that, 400 ms after the beginning.
///
/// Not covered: from 700 ms on, when the death is suspected, one order of events is followed.
fn voters_change() -> Case {
    Case {
        name: "a second standby becomes a voter while the primary dies",
        nodes: 3,
        mode: Mode::Strict { quorum: 1 },
        voters: 1,
        by_lease_only: false,
        faults: vec![Fault::Off(0)],
        when: (400, 400),
        horizon: 700,
        ..by_lease()
    }
}

/// PostgreSQL crashes at the beginning, and is restarted in place; one request to the store goes without an
/// answer, and is carried out later or never.
///
/// Not covered: a second crash, and a failover because of it.
fn crash() -> Case {
    Case {
        name: "PostgreSQL crashes, and is restarted in place",
        by_lease_only: false,
        mode: Mode::Strict { quorum: 1 },
        faults: vec![Fault::Crash(0)],
        lost: 1,
        horizon: 600,
        ..by_lease()
    }
}

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
    if let Some((property, why, steps)) = &explored.broken {
        println!("  broken: {property}: {why:?}, by {} steps: {}", steps.len(), steps.join(" "));
    }
}

fn holds(case: Case) {
    let explored = explore(case);
    show(&explored);
    assert!(explored.complete);
}

/// Without a rule the same case has a counterexample.
fn fails(case: Case, rule: Rule) {
    let explored = explore(case.with(Rules::without(rule)));
    println!("without {rule}:");
    show(&explored);
    assert!(explored.broken.is_some());
}

#[test]
fn model_by_the_end_of_the_lease() {
    holds(by_lease());
}

#[test]
fn model_of_a_primary_that_waits_for_nobody() {
    holds(open());
}

#[test]
fn model_of_something_late() {
    holds(late());
}

#[test]
fn model_by_a_quorum() {
    holds(by_quorum());
}

#[test]
fn model_of_the_failsafe() {
    holds(failsafe());
}

#[test]
fn model_of_a_change_of_voters() {
    holds(voters_change());
}

#[test]
fn model_of_a_crash() {
    holds(crash());
}

#[test]
fn model_without_a_proof() {
    fails(open(), Rule::S2);
}

#[test]
fn model_without_covering_the_voters() {
    fails(voters_change(), Rule::S3);
}

#[test]
fn model_without_the_furthest_voter() {
    fails(by_quorum(), Rule::S4);
}

#[test]
fn model_without_all_grants() {
    fails(failsafe(), Rule::S8);
}
