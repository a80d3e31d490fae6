//! A process may end at any moment: in each story each controller and each agent ends after each of its effects in
//! turn, with what it had ordered half carried out, and begins again. It always comes to one primary, and no rule is
//! ever broken.
//!
//! Such a moment is told by `PGHA_SEED=n PGHA_ENDING=story,mode,controllers,process,after`.

use std::collections::BTreeMap;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use pgha_machine::failover::record::Mode;
use pgha_sim::{Ending, Outcome, Plan, Story, run};

/// How long things take, and what works at once, is drawn anew for each.
const SEEDS: [u64; 2] = [1, 2];
/// What the cluster's commits wait for.
const MODES: [Mode; 3] = [
    Mode::Sync { quorum: 1, max_lag: 20 },
    Mode::Strict { quorum: 1 },
    Mode::Async { max_lag: 20 },
];
/// What a controller does in these stories.
const OF_A_CONTROLLER: [&str; 8] =
    ["read", "freeze", "thaw", "nominate", "withdraw", "report", "have it catch up", "turn off"];
/// What an agent does in them.
const OF_AN_AGENT: [&str; 23] = [
    "read",
    "renew",
    "release",
    "take",
    "promoted",
    "announce",
    "settle",
    "report",
    "ask",
    "grant",
    "keep",
    "start",
    "restart",
    "stop streaming",
    "catch up",
    "follow",
    "rewind",
    "promote",
    "use voters",
    "admit",
    "kill",
    "arm",
    "claim",
];

/// A schedule without an ending, and who ends when in it.
type Moment = (Plan, Option<Ending>);

/// How long a process is gone: a moment, or longer than a lease.
const fn gone(after: u64) -> u64 {
    if after.is_multiple_of(2) { 40 } else { 1_300 }
}

fn told(seed: u64, story: Story, mode: Mode, controllers: usize) -> Plan {
    Plan::telling(seed, story, mode, controllers)
}

/// What is wrong with an outcome.
fn complaint(outcome: &Outcome) -> Option<String> {
    match (&outcome.violation, outcome.primaries) {
        (Some((when, violation)), _) => Some(format!("at {when}: {violation}")),
        (None, 1) => None,
        (None, count) => Some(format!("{count} primaries in the end")),
    }
}

/// Plays schedules on all cores, in no order.
fn play(moments: &[Moment], each: impl Fn(&Moment, Outcome) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(moment) = moments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (plan, ending) = moment;
                    let plan = ending.map_or_else(|| plan.clone(), |it| plan.clone().ending(it));
                    each(moment, run(&plan, false));
                }
            });
        }
    });
}

#[test]
fn sim_a_process_may_end_after_each_of_its_effects() {
    let begun = Instant::now();
    let mut stories = Vec::new();
    for seed in SEEDS {
        for story in Story::ALL {
            for mode in MODES {
                // One controller, or two.
                let controllers = 1 + usize::from(seed.is_multiple_of(2));
                stories.push((told(seed, story, mode, controllers), None));
            }
        }
    }
    let moments = Mutex::new(Vec::new());
    play(&stories, |(plan, _), outcome| {
        assert_eq!(complaint(&outcome), None, "{plan:?}, and nobody ended");
        let mut moments = moments.lock().expect("nobody panicked");
        for (process, count) in outcome.effects.iter().enumerate() {
            let ending = |after| Ending { process, after, gone: gone(after) };
            moments.extend((1..=*count).map(|after| (plan.clone(), Some(ending(after)))));
        }
    });
    let moments = moments.into_inner().expect("nobody panicked");
    let met: Mutex<BTreeMap<(bool, &str), usize>> = Mutex::default();
    let failed = Mutex::new(Vec::new());
    play(&moments, |(plan, ending), outcome| {
        let Some(ending) = ending else { return };
        let step = outcome.ended.expect("it comes to that effect, as it did before");
        *met.lock()
            .expect("nobody panicked")
            .entry((ending.process < plan.nodes, step))
            .or_default() += 1;
        if let Some(complaint) = complaint(&outcome) {
            let (seed, story, mode) = (plan.seed, plan.story, plan.mode);
            failed.lock().expect("nobody panicked").push(format!(
                "{complaint}: seed {seed}, {story:?}, {mode:?}, {} controllers, {ending:?} ({step})",
                plan.controllers
            ));
        }
    });
    let met = met.into_inner().expect("nobody panicked");
    println!(
        "{} stories, {} endings in {:.1} s",
        stories.len(),
        moments.len(),
        begun.elapsed().as_secs_f64()
    );
    for (of_agent, who) in [(false, "controller"), (true, "agent")] {
        let of = met.iter().filter(|((agent, _), _)| *agent == of_agent);
        let of: Vec<_> = of.map(|((_, step), count)| format!("{step} {count}")).collect();
        println!("  {who}: {}", of.join(", "));
    }
    let failed = failed.into_inner().expect("nobody panicked");
    assert_eq!(failed, Vec::<String>::new());
    let unmet = |agent, steps: &[&'static str]| -> Vec<&'static str> {
        steps.iter().copied().filter(|step| !met.contains_key(&(agent, step))).collect()
    };
    assert_eq!(unmet(false, &OF_A_CONTROLLER), [""; 0], "no controller ended after these");
    assert_eq!(unmet(true, &OF_AN_AGENT), [""; 0], "no agent ended after these");
}

#[test]
fn sim_one_ending() {
    let Some(seed) = env::var("PGHA_SEED").ok().and_then(|seed| seed.parse().ok()) else { return };
    let Ok(ending) = env::var("PGHA_ENDING") else { return };
    let numbers: Vec<usize> = ending.split(',').map(|it| it.parse().expect("a number")).collect();
    let [story, mode, controllers, process, after] = numbers[..] else { panic!("five numbers") };
    let after = after as u64;
    let ending = Ending { process, after, gone: gone(after) };
    let plan = told(seed, Story::ALL[story], MODES[mode], controllers).ending(ending);
    let outcome = run(&plan, true);
    assert_eq!(complaint(&outcome), None);
}
