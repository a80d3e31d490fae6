//! The benches: the figures that pgha claims, measured on this machine.
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use pgha_tests::bench::{dataplane, failover, health};

/// Measures what pgha claims.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What the XDP program costs a frame, above an empty program measured in the same run
    Dataplane {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// For how long nobody can write when a primary crashes or its host is lost, and what is missing then
    Failover {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// How often each of them is lost
        #[arg(long, value_name = "NUMBER", default_value_t = failover::RUNS)]
        runs: u32,
        /// Only this; may be given several times
        #[arg(long, value_name = "LOSS")]
        only: Vec<failover::Loss>,
    },
    /// What a round of health checks costs the servers and the controller, at 100 servers and more
    Health {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Only so many servers, each in so many services, like 100x1; may be given several times
        #[arg(long, value_name = "SERVERSxSERVICES")]
        only: Vec<health::Scale>,
        /// For how many rounds, of a second each, the controller is watched
        #[arg(long, value_name = "NUMBER", default_value_t = health::ROUNDS)]
        rounds: u32,
        /// Charge the controller for what the lab's network and the other hosts' kernels do with its packets,
        /// which on real hosts others do
        #[arg(long)]
        whole_network: bool,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Dataplane { json } => {
            let figures = dataplane::measure()?;
            if *json {
                println!("{}", figures.json());
            } else {
                print!("{figures}");
            }
        }
        Verb::Failover { json, runs, only } => {
            let figures = failover::measure(only, *runs)?;
            if *json {
                println!("{}", figures.json());
            } else {
                print!("{figures}");
            }
            let missing = figures.missing();
            ensure!(missing == 0, "{missing} acknowledged rows are missing");
        }
        Verb::Health { json, only, rounds, whole_network } => {
            let network =
                if *whole_network { health::Network::Sender } else { health::Network::Elsewhere };
            let figures = health::measure(only, *rounds, network)?;
            if *json {
                println!("{}", figures.json());
            } else {
                print!("{figures}");
            }
        }
    }
    Ok(())
}
