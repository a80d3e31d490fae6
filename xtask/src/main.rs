//! Set-up, build, lint and test of pgha, and the start of its lab, demo and bench.
//!
//! Progress and the output of every tool go to standard error; standard output belongs to what is
//! started: `cargo test`, the lab, the demo or the bench.

mod build;
mod environment;
mod exec;
mod launch;
mod lint;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use build::Profile;
use launch::PassedOn;
use setup::Missing;
use workspace::Workspace;

/// Set-up, build, lint and test of pgha.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    /// Install nothing: name what is missing and the command that installs it, and stop
    #[arg(long, global = true)]
    no_install: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install the Debian packages and the eBPF toolchain that are missing
    Setup,
    /// Set up, then build the eBPF objects and the host binaries
    Build,
    /// Build, then show a failover in the lab
    Demo(PassedOn),
    /// Build, then start, enter or remove the lab: up, exec, down
    Lab(PassedOn),
    /// Build for release, then measure: dataplane, health, failover
    Bench(PassedOn),
    /// Check formatting, clippy and the documentation
    Lint,
    /// Build, then run the test tiers: all of them, or those named
    Test(test::Selection),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let workspace = Workspace::find()?;
    let missing = if cli.no_install { Missing::Report } else { Missing::Install };
    match cli.verb {
        Verb::Setup => {
            setup::run(&workspace, missing)?;
            setup::for_tests(&workspace, missing)
        }
        Verb::Build => {
            build::ebpf(&workspace, missing)?;
            build::host(&workspace, Profile::Dev)
        }
        Verb::Demo(passed_on) => launch::run(&workspace, missing, "demo", Profile::Dev, &passed_on)
            .map(|never| match never {}),
        Verb::Lab(passed_on) => launch::run(&workspace, missing, "lab", Profile::Dev, &passed_on)
            .map(|never| match never {}),
        Verb::Bench(passed_on) => {
            launch::run(&workspace, missing, "bench", Profile::Release, &passed_on)
                .map(|never| match never {})
        }
        Verb::Lint => {
            build::ebpf(&workspace, missing)?;
            lint::run(&workspace)
        }
        Verb::Test(selection) => test::run(&workspace, missing, &selection),
    }
}
