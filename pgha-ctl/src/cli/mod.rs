//! The verbs of `pgha`.

mod client;
mod director;
mod explain;
mod flows;
mod realserver;
mod steer;
mod table;
mod trace;
mod web;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pgha_machine::Weight;

use crate::bpf::PinDirectory;
use crate::bpf::xdp;
use crate::config::Config;
use crate::{controller, telemetry};

/// Read load balancer for PostgreSQL: one address for all healthy standbys.
#[derive(Debug, Parser)]
#[command(name = "pgha", version, propagate_version = true)]
struct Pgha {
    /// The configuration file.
    #[arg(long, short, global = true, default_value = "/etc/pgha/pgha.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Balance: watch the standbys and keep the data plane equal to their health.
    Controller,
    /// Show the director, the primary and the real servers.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set the weight of a real server, or give it back its configured one.
    Weight {
        #[command(flatten)]
        server: Server,
        /// 0 to 1000, or `default`.
        weight: WeightArgument,
    },
    /// Send no new connections to a real server; those it has stay.
    Drain(Server),
    /// Send new connections to a drained real server again.
    Undrain(Server),
    /// Say which real server a client's connection has or would get, and why.
    ///
    /// Exit code: 0 when a real server is named, 3 when none is.
    Explain(explain::Arguments),
    /// List the connections that the data plane remembers.
    Flows(flows::Arguments),
    /// Show frames with their verdicts, as they leave the program.
    Trace(trace::Arguments),
    /// Serve the status page to a browser on this machine, until Ctrl-C.
    ///
    /// Prints its URL, which has a token in it. The page only reads.
    Web(web::Arguments),
    /// Say which director answers for the VIPs.
    #[command(subcommand)]
    Director(director::Verb),
    /// Say everything that is wrong with the configuration file.
    CheckConfig,
    /// Take the XDP program off the interfaces and forget all flows.
    Detach,
    /// Make this node able to serve the VIPs, or take that back.
    #[command(subcommand)]
    Realserver(realserver::Verb),
}

/// A real server, for the verbs that steer one.
#[derive(Debug, Args)]
struct Server {
    /// Its name in the node table, or its address, or address and port: `[fd00::1]:5432`.
    server: String,
    /// Only in this service (its name, or its VIP with or without port); otherwise in all that have
    /// the server.
    #[arg(long)]
    service: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct WeightArgument(Option<Weight>);

impl std::str::FromStr for WeightArgument {
    type Err = pgha_machine::ParseWeightError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" {
            Ok(Self(None))
        } else {
            text.parse().map(|weight| Self(Some(weight)))
        }
    }
}

/// Exit code of `pgha explain` when no real server is named.
const NO_SERVER: u8 = 3;

/// Runs the verb of the command line. Exit codes: 0 done, 1 failed (one sentence on standard error
/// says why), 2 not a command line of pgha, 3 done, and no real server is named (`pgha explain`).
#[must_use]
pub fn main() -> ExitCode {
    let Pgha { config, verb } = Pgha::parse();
    match run(&config, verb) {
        Ok(code) => code,
        Err(error) => {
            // Every error here tells its cause in its own sentence.
            eprintln!("pgha: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Path, verb: Verb) -> anyhow::Result<ExitCode> {
    use controller::status::OrderKind;
    match verb {
        Verb::Controller => {
            telemetry::init();
            runtime()?.block_on(controller::run(config))?;
        }
        Verb::Status { json } => runtime()?.block_on(async {
            let status = client::status(&Config::control_at(config)?).await?;
            table::print(json, &status, table::status)
        })?,
        Verb::Weight { server, weight: WeightArgument(weight) } => {
            runtime()?.block_on(steer::order(config, server, OrderKind::Weight { weight }))?;
        }
        Verb::Drain(server) => {
            runtime()?.block_on(steer::order(config, server, OrderKind::Drain))?;
        }
        Verb::Undrain(server) => {
            runtime()?.block_on(steer::order(config, server, OrderKind::Undrain))?;
        }
        Verb::Explain(arguments) => {
            let named = runtime()?.block_on(explain::run(config, arguments))?;
            return Ok(if named { ExitCode::SUCCESS } else { NO_SERVER.into() });
        }
        Verb::Flows(arguments) => runtime()?.block_on(flows::run(config, arguments))?,
        Verb::Trace(arguments) => runtime()?.block_on(trace::run(config, arguments))?,
        Verb::Web(arguments) => runtime()?.block_on(web::run(config, &arguments))?,
        Verb::Director(verb) => runtime()?.block_on(director::run(config, verb))?,
        Verb::CheckConfig => check_config(config)?,
        Verb::Detach => detach(config)?,
        Verb::Realserver(verb) => runtime()?.block_on(realserver::run(config, verb))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One thread: everything here waits more than it computes, and sockets made on it belong to the
/// network namespace it is in.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn check_config(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    config.check_files(path)?;
    for remark in config.remarks() {
        println!("remark: {remark}");
    }
    println!(
        "{}: correct; {} services, {} nodes",
        path.display(),
        config.services().len(),
        config.nodes().len()
    );
    Ok(())
}

fn detach(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let pins = PinDirectory::new(config.director().bpffs(), config.cluster().as_str())?;
    if xdp::detach(&pins)? {
        println!(
            "detached from {}; the VIPs are served no more",
            config.director().interfaces().join(", ")
        );
    } else {
        println!("nothing is attached for cluster {}", config.cluster());
    }
    Ok(())
}
