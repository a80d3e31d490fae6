//! The verbs of `pgha`.

mod agent;
mod argument;
mod check;
mod check_config;
mod clear_failures;
mod client;
mod concerns;
mod detach;
mod director;
mod drain;
mod exit;
mod explain;
mod failover;
mod flows;
mod guardian;
mod history;
mod init;
mod managed;
mod manual;
mod named;
mod nodes;
mod output;
mod reader;
mod realserver;
mod reload;
mod status;
mod steer;
mod table;
mod tls;
mod top;
mod trace;
mod web;
mod why_not;
mod words;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use pgha_machine::Weight;

use crate::{controller, telemetry};
use client::Options;
use exit::Exit;

/// Read load balancer for PostgreSQL: one address for all healthy standbys.
#[derive(Debug, Parser)]
#[command(name = "pgha", version, propagate_version = true, after_long_help = exit::manual())]
struct Pgha {
    #[command(flatten)]
    options: client::Options,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Balance: watch the standbys and keep the data plane equal to their health.
    Controller,
    /// Manage PostgreSQL on this node: it runs under a lease, and ends before another node can be the primary.
    ///
    /// The end of an agent leaves PostgreSQL running; the next one takes it over.
    Agent(agent::Arguments),
    /// Found the cluster of the managed nodes: its first epoch, and who is the primary.
    ///
    /// The agents run, and nobody is a primary before this. Says what it would do, and does it with --yes.
    Init(init::Arguments),
    /// Show the director, the primary, the managed nodes and the real servers.
    ///
    /// Exit code: 0, or 4 when no controller answers; then the managed nodes are shown as their agents tell.
    Status(status::Arguments),
    /// Have another managed node be the primary; nothing that was acknowledged is lost.
    ///
    /// The primary ends PostgreSQL and gives its lease back; where it is gone already, its end is proven first.
    /// Refused before anything is done where nobody could follow. Shows each stage until it is done; the order
    /// stands in the store and goes on whoever waits.
    ///
    /// Exit code: 0 when there is another primary, 5 when it is refused, 6 when --timeout was over first, 130 after
    /// Ctrl-C.
    Failover(failover::Arguments),
    /// Have a node be the primary though nobody knows whether it has all that was acknowledged. Audited.
    ///
    /// For the case that the primary and too many voters are gone for good. Refused while there is a primary. That
    /// the former primary can acknowledge nothing more is proven all the same. Who gave the order stands in
    /// `pgha history` for ever.
    ForcePrimary(failover::ForceArguments),
    /// Have managed nodes count their failures anew, and their restart budget with them.
    ClearFailures(clear_failures::Arguments),
    /// Show every term of a primary: since when, how it came to it, and whose word it was.
    History(history::Arguments),
    /// Show every node of every service, with the columns of pgpool's `show pool_nodes`.
    Nodes(nodes::Arguments),
    /// Show shares, connections, lag and verdicts as they change, on the whole terminal.
    Top(top::Arguments),
    /// Say why a node gets no new connections, or fewer than its weight says, and what mends that.
    ///
    /// Of a managed node also why it would not become the primary now.
    ///
    /// Exit code: 0 when it gets new connections in every service that is meant, 3 when it does not.
    WhyNot(why_not::Arguments),
    /// Set the weight of a real server, or give it back its configured one.
    Weight {
        #[command(flatten)]
        server: Server,
        /// 0 to 1000, or `default`.
        #[arg(allow_negative_numbers = true)]
        weight: WeightArgument,
    },
    /// Send no new connections to a real server; those it has stay.
    Drain(drain::Arguments),
    /// Send new connections to a drained real server again.
    Undrain(Server),
    /// Add and remove readers, by an operator's word alone.
    #[command(subcommand)]
    Reader(reader::Verb),
    /// Have the controller read its configuration file again, as SIGHUP does.
    ///
    /// Everything that is wrong with the file is told; then the old configuration stays in force.
    Reload(reload::Arguments),
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
    /// Say what keeps this node, or the servers it is to balance, from working, and how to mend it.
    ///
    /// Exit code: 0 when all is well but for warnings, 3 when something does not work.
    Check(check::Arguments),
    /// Say everything that is wrong with the configuration file.
    CheckConfig(check_config::Arguments),
    /// Take the XDP program off the interfaces and forget all flows.
    Detach(detach::Arguments),
    /// Make this node able to serve the VIPs, or take that back.
    #[command(subcommand)]
    Realserver(realserver::Verb),
    /// Print what a shell needs to complete command lines of pgha.
    ///
    /// For bash: pgha completions bash > /etc/bash_completion.d/pgha
    Completions(manual::Completions),
    /// Print the manual page of pgha, or write one for each verb.
    Man(manual::Man),
    /// Make the certificates by which processes and operators know each other.
    #[command(subcommand)]
    Tls(tls::Verb),
    /// End PostgreSQL when its agent does not: the agent starts this, and nobody else needs to.
    #[command(hide = true)]
    Guardian(guardian::Arguments),
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

impl Pgha {
    /// Refuses what clap cannot: `--to` before a verb that does its work on this node.
    fn sound(self) -> Result<Self, clap::Error> {
        if self.options.to.is_some() && self.verb.is_of_this_node() {
            let error = "this verb works on this node and asks no controller, so it takes no --to; \
                         run it on the node that is meant";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, error));
        }
        Ok(self)
    }
}

impl Verb {
    /// Whether no controller is asked.
    const fn is_of_this_node(&self) -> bool {
        match self {
            Self::Controller
            | Self::Agent(_)
            | Self::Init(_)
            | Self::Guardian(_)
            | Self::Check(_)
            | Self::CheckConfig(_)
            | Self::Detach(_)
            | Self::Realserver(_)
            | Self::Tls(_)
            | Self::Completions(_)
            | Self::Man(_) => true,
            Self::Status(_)
            | Self::Failover(_)
            | Self::ForcePrimary(_)
            | Self::ClearFailures(_)
            | Self::History(_)
            | Self::Nodes(_)
            | Self::Top(_)
            | Self::WhyNot(_)
            | Self::Weight { .. }
            | Self::Drain(_)
            | Self::Undrain(_)
            | Self::Reader(_)
            | Self::Reload(_)
            | Self::Explain(_)
            | Self::Flows(_)
            | Self::Trace(_)
            | Self::Web(_)
            | Self::Director(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct WeightArgument(Option<Weight>);

impl std::str::FromStr for WeightArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" {
            return Ok(Self(None));
        }
        let weight = argument::weight(text);
        weight.map(|weight| Self(Some(weight))).map_err(|error| format!("{error}, or `default`"))
    }
}

/// Runs the verb of the command line; [`exit`] has the exit codes.
#[must_use]
pub fn main() -> ExitCode {
    let matches = Pgha::command().get_matches();
    // What clap found in the command line is what it was told to look for.
    let Pgha { options, verb } = Pgha::from_arg_matches(&matches)
        .and_then(Pgha::sound)
        .unwrap_or_else(|error| error.format(&mut Pgha::command()).exit());
    let exit = run(&options, verb);
    exit.unwrap_or_else(|error| exit::failed(&error, wants_json(&matches))).into()
}

/// Whether the command line has the `--json` of its verb.
fn wants_json(matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some((_, verb)) => wants_json(verb),
        None => matches.try_get_one("json").ok().flatten().copied().unwrap_or(false),
    }
}

fn run(options: &Options, verb: Verb) -> anyhow::Result<Exit> {
    use controller::status::OrderKind;
    match verb {
        Verb::Controller => {
            telemetry::init();
            runtime()?.block_on(controller::run(&options.config))?;
        }
        Verb::Agent(arguments) => agent::run(&options.config, &arguments)?,
        Verb::Init(arguments) => runtime()?.block_on(init::run(&options.config, arguments))?,
        Verb::Status(arguments) => return runtime()?.block_on(status::run(options, arguments)),
        Verb::Failover(arguments) => return runtime()?.block_on(failover::run(options, arguments)),
        Verb::ForcePrimary(arguments) => {
            return runtime()?.block_on(failover::force(options, arguments));
        }
        Verb::ClearFailures(arguments) => {
            runtime()?.block_on(clear_failures::run(options, arguments))?;
        }
        Verb::History(arguments) => runtime()?.block_on(history::run(options, arguments))?,
        Verb::Nodes(arguments) => runtime()?.block_on(nodes::run(options, arguments))?,
        Verb::Top(arguments) => runtime()?.block_on(top::run(options, arguments))?,
        Verb::WhyNot(arguments) => {
            return Ok(Exit::answer(runtime()?.block_on(why_not::run(options, arguments))?));
        }
        Verb::Weight { server, weight: WeightArgument(weight) } => {
            runtime()?.block_on(steer::order(options, server, OrderKind::Weight { weight }))?;
        }
        Verb::Drain(arguments) => return runtime()?.block_on(drain::run(options, arguments)),
        Verb::Undrain(server) => {
            runtime()?.block_on(steer::order(options, server, OrderKind::Undrain))?;
        }
        Verb::Reader(verb) => runtime()?.block_on(reader::run(options, verb))?,
        Verb::Reload(arguments) => runtime()?.block_on(reload::run(options, arguments))?,
        Verb::Explain(arguments) => {
            return Ok(Exit::answer(runtime()?.block_on(explain::run(options, arguments))?));
        }
        Verb::Flows(arguments) => runtime()?.block_on(flows::run(options, arguments))?,
        Verb::Trace(arguments) => runtime()?.block_on(trace::run(options, arguments))?,
        Verb::Web(arguments) => runtime()?.block_on(web::run(options, &arguments))?,
        Verb::Director(verb) => runtime()?.block_on(director::run(options, verb))?,
        Verb::Check(arguments) => {
            let well = runtime()?.block_on(check::run(&options.config, arguments))?;
            return Ok(Exit::answer(well));
        }
        Verb::CheckConfig(arguments) => check_config::run(&options.config, &arguments)?,
        Verb::Detach(arguments) => detach::run(&options.config, &arguments)?,
        Verb::Realserver(verb) => runtime()?.block_on(realserver::run(&options.config, verb))?,
        Verb::Tls(verb) => tls::run(&options.config, &options.tls, verb)?,
        Verb::Guardian(arguments) => guardian::run(arguments)?,
        Verb::Completions(completions) => completions.print(Pgha::command())?,
        Verb::Man(man) => man.write(Pgha::command())?,
    }
    Ok(Exit::Done)
}

/// One thread: everything here waits more than it computes, and sockets made on it belong to the
/// network namespace it is in.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
