//! The test tiers, from the quickest to the slowest.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::build::{self, Profile};
use crate::exec::{exec, step};
use crate::lint;
use crate::setup::{self, Missing};
use crate::workspace::{Workspace, is_root};

#[cfg(test)]
mod tests;

/// Where tests list those of them that could not run, below the target directory.
const SKIPPED: &str = "skipped-tests";

/// A kind of test, in the order in which they run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
enum Tier {
    /// Formatting, clippy, documentation
    Lint,
    /// Tests inside the crates, and documentation examples
    Unit,
    /// The decisions of failover in simulated clusters, and in a model checker
    Sim,
    /// The eBPF objects in the kernel, one packet at a time (root)
    Xdp,
    /// PostgreSQL and XDP in network namespaces (root)
    Netns,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Sim => "sim",
            Self::Xdp => "xdp",
            Self::Netns => "netns",
        }
    }

    fn needs_root(self) -> bool {
        match self {
            Self::Lint | Self::Unit | Self::Sim => false,
            Self::Xdp | Self::Netns => true,
        }
    }

    /// The calls of `cargo` of this tier, without the filter.
    fn cargo_calls(self) -> &'static [&'static str] {
        match self {
            Self::Lint => &[],
            // The shipped programs first and with the packages that the later tiers build them with: beside others
            // they would be built with other features, and so once more. The simulator has a tier of its own.
            Self::Unit => &[
                "test -p pgha-ctl -p pgha-tests --lib --bins --no-fail-fast --",
                "test -p pgha-ctl -p pgha-tests --doc --no-fail-fast --",
                "test --workspace --exclude pgha-ctl --exclude pgha-tests --exclude pgha-sim \
                 --lib --bins --no-fail-fast --",
                "test --workspace --exclude pgha-ctl --exclude pgha-tests --exclude pgha-sim \
                 --doc --no-fail-fast --",
            ],
            // By itself: with the features of its tests nothing that is shipped is built.
            Self::Sim => &["test -p pgha-sim --tests -- --nocapture --test-threads=1"],
            Self::Xdp => &["test -p pgha-tests --test xdp --"],
            Self::Netns => &["test -p pgha-tests --test netns -- --test-threads=2"],
        }
    }
}

/// Which tests to run.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// The tiers to run; all of them when none is named
    #[arg(value_name = "TIER")]
    tiers: Vec<Tier>,
    /// Passed on to the test binaries, such as a part of a test's name
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

struct Outcome {
    tier: Tier,
    passed: bool,
    /// Tests that could not run here, and why.
    skipped: Vec<String>,
    took: Duration,
}

/// Sets up, builds and runs the selected tiers, each also after one that failed.
pub(crate) fn run(workspace: &Workspace, missing: Missing, selection: &Selection) -> Result<()> {
    let tiers = in_order(&selection.tiers);
    let privileged: Vec<_> = tiers.iter().filter(|tier| tier.needs_root()).copied().collect();
    if !privileged.is_empty() && !is_root() {
        bail!(
            "root is needed for {}: type `sudo -E env PATH=\"$PATH\" cargo xtask test ...`, \
             or `cargo xtask test lint unit sim` for what needs none",
            names(&privileged)
        );
    }
    build::ebpf(workspace, missing)?;
    if tiers.contains(&Tier::Netns) {
        setup::for_tests(workspace, missing)?;
    }
    if !privileged.is_empty() {
        build::host(workspace, Profile::Dev)?;
    }
    let outcomes: Vec<_> =
        tiers.into_iter().map(|tier| run_tier(workspace, tier, &selection.filter)).collect();
    eprint!("{}", summary(&outcomes));
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.tier).collect();
    if !failed.is_empty() {
        bail!("failed: {}", names(&failed));
    }
    Ok(())
}

/// The tiers to run for those named: each once, in the order of [`Tier`].
fn in_order(named: &[Tier]) -> Vec<Tier> {
    let every = Tier::value_variants().iter().copied();
    every.filter(|tier| named.is_empty() || named.contains(tier)).collect()
}

fn run_tier(workspace: &Workspace, tier: Tier, filter: &[String]) -> Outcome {
    step(format_args!("tier {}", tier.name()));
    let begin = Instant::now();
    let skipped = workspace.target().join(SKIPPED);
    // Of an earlier run; it may not be there.
    let _ = fs::remove_file(&skipped);
    let passed = if tier == Tier::Lint {
        report(lint::run(workspace))
    } else {
        let mut passed = true;
        for call in tier.cargo_calls() {
            let mut test = cargo(workspace, call, filter);
            passed &= report(exec(test.env("PGHA_SKIPPED", &skipped)));
        }
        passed
    };
    // Nobody has written it where no test was skipped.
    let skipped = fs::read_to_string(&skipped).unwrap_or_default();
    let skipped = skipped.lines().map(str::to_owned).collect();
    let outcome = Outcome { tier, passed, skipped, took: begin.elapsed() };
    step(format_args!("tier {}: {} in {}", tier.name(), result(&outcome), seconds(outcome.took)));
    outcome
}

fn cargo(workspace: &Workspace, call: &str, filter: &[String]) -> Command {
    let mut cargo = workspace.host_cargo();
    cargo.args(call.split_whitespace()).args(filter);
    cargo
}

fn report(result: Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            eprintln!("error: {error:#}");
            false
        }
    }
}

fn summary(outcomes: &[Outcome]) -> String {
    let line = |tier: &str, result: &str, time: &str| format!("{tier:<8}{result:<10}{time:>10}\n");
    let skipped: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.skipped).collect();
    let mut table = format!("\n{}", line("tier", "result", "time"));
    for outcome in outcomes {
        table += &line(outcome.tier.name(), result(outcome), &seconds(outcome.took));
    }
    if !skipped.is_empty() {
        table += &format!("\nSKIPPED, so that nobody knows: {}\n", skipped.len());
        for test in skipped {
            table += &format!("    {test}\n");
        }
    }
    table
}

fn result(outcome: &Outcome) -> &'static str {
    if outcome.passed { "passed" } else { "FAILED" }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn names(tiers: &[Tier]) -> String {
    tiers.iter().map(|tier| tier.name()).collect::<Vec<_>>().join(", ")
}
