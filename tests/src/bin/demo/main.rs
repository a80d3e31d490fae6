//! The demonstration: a primary with three standbys behind one reader VIP, and what happens to its
//! clients when standbys die, join or are drained, and when the controller is killed; then managed nodes, and what
//! happens to who writes when their primary dies.

mod failover;
mod story;
mod talk;

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use pgha_tests::lab::{Lab, reaper, require_root};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use story::Story;

/// Watch a PostgreSQL primary's standbys being read through one address.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Arguments {
    /// Leave everything running at the end, and say how to look around
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    require_root()?;
    let began = Instant::now();
    let lab = Lab::new()?;
    take_down_when_interrupted(lab.id())?;
    let mut story = Story::begin(&lab, began)?;
    story.round_robin()?;
    story.benchmark()?;
    story.controller_killed()?;
    story.reader_killed()?;
    story.reader_terminated()?;
    story.stranger_joins()?;
    story.weight_zero()?;
    for (what, value) in failover::primary_killed()? {
        story.measure(what, value);
    }
    story.summary();
    if arguments.keep {
        story.look_around();
        lab.keep()
    } else {
        drop(lab);
        println!("\nEverything is cleaned up.");
        Ok(())
    }
}

/// Ctrl-C takes the lab down before the prompt comes back.
fn take_down_when_interrupted(lab: &str) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let lab = lab.to_owned();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            eprintln!("\ninterrupted: cleaning up");
            if let Err(error) = reaper::tear_down(&lab) {
                eprintln!("demo: {error:#}; `cargo xtask lab down --all` tries again");
            }
            std::process::exit(130);
        }
    });
    Ok(())
}
