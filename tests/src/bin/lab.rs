//! The lab, handed to a person: a cluster of namespaces to look around in.
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use nix::sched::{CloneFlags, setns};
use pgha_ctl::clock;
use pgha_ctl::guardian::{Charge, Client};
use pgha_tests::lab::artifacts::pgha_binary;
use pgha_tests::lab::netns::Namespace;
use pgha_tests::lab::postgres::PORT;
use pgha_tests::lab::process::client_environment;
use pgha_tests::lab::state::{self, State};
use pgha_tests::lab::{Lab, READER_VIP, config, pulse, reaper, require_root};

/// A PostgreSQL cluster with directors in network namespaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring up a primary, standbys, a director and a client, to stay until `lab down`
    Up {
        /// How many standbys: db2, db3, ...
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=8))]
        standbys: u8,
    },
    /// Run a command on a host of a lab
    Exec {
        /// The lab; the newest kept one unless given
        #[arg(long)]
        lab: Option<String>,
        /// The host: db1, lb1, client, ... or switch
        host: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// List the labs of this machine
    List,
    /// Take a lab down
    Down {
        /// The lab; the newest kept one unless given
        #[arg(long, conflicts_with = "all")]
        lab: Option<String>,
        /// All kept labs, and whatever dead tests left over
        #[arg(long)]
        all: bool,
    },
    /// Serve the time over TCP, and log it
    #[command(hide = true)]
    Pulse {
        /// Where to listen
        address: SocketAddr,
    },
    /// Renew a lease at a guardian, as an agent does
    #[command(hide = true)]
    Renew {
        /// What it is to guard, as JSON
        charge: String,
        /// How long each renewal lasts, in milliseconds
        lease: u64,
        /// The guardian's socket
        socket: PathBuf,
    },
    /// Wait for the end of standard input, then take the lab down
    #[command(hide = true)]
    Reap {
        /// The lab
        id: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    require_root()?;
    match verb {
        Verb::Up { standbys } => up(standbys),
        Verb::Exec { lab, host, command } => exec(lab.as_deref(), &host, &command),
        Verb::List => list(),
        Verb::Down { lab: None, all: true } => down_all(),
        Verb::Down { lab, .. } => down(&find(lab.as_deref())?),
        Verb::Pulse { address } => pulse::serve(address),
        Verb::Renew { charge, lease, socket } => {
            renew(&serde_json::from_str(&charge)?, Duration::from_millis(lease), &socket)
        }
        Verb::Reap { id } => reaper::reap(&id),
    }
}

fn up(standbys: u8) -> Result<()> {
    let start = Instant::now();
    let step = |text: &str| println!("[{:5.1} s] {text}", start.elapsed().as_secs_f32());
    // Missing things are told before anything is made.
    pgha_binary()?;
    let readers: Vec<String> = (2..2 + standbys).map(|number| format!("db{number}")).collect();
    let readers: Vec<&str> = readers.iter().map(String::as_str).collect();

    let lab = Lab::new()?;
    lab.hosts(&[&["db1", "lb1", "client"], readers.as_slice()].concat())?;
    step(&format!("lab {}: hosts on a switch", lab.id()));
    let primary = lab.primary("db1")?;
    step("db1: primary");
    lab.standbys(&readers, "db1")?;
    if !readers.is_empty() {
        step(&format!("{}: streaming standbys", readers.join(" ")));
    }
    for reader in &readers {
        lab.realserver_setup(reader)?;
    }
    step(&format!("standbys own {READER_VIP} on their loopback"));
    let director = lab.director("lb1")?;
    director.write_config(&config::basic(&lab, &director, &["db1"])?)?;
    director.start()?;
    step("lb1: director running");

    let id = lab.id().to_owned();
    let config = director.config_path();
    let logs = lab.directory().join("log");
    lab.keep()?;
    println!(
        "
The reader VIP is {READER_VIP}:{PORT}; the primary is db1, {}. Look around:

  cargo xtask lab exec client psql -h {READER_VIP} -c 'select inet_server_addr(), pg_is_in_recovery()'
  cargo xtask lab exec lb1 pgha status --config {}
  cargo xtask lab exec db1 psql -c 'select * from pg_stat_replication'
  cargo xtask lab exec switch tcpdump -eni lb1

Logs are in {}. Take it down with

  cargo xtask lab down --lab {id}",
        primary.host().address(),
        config.display(),
        logs.display(),
    );
    Ok(())
}

/// Becomes the command, so that its terminal, signals and exit code are the caller's.
fn exec(lab: Option<&str>, host: &str, command: &[String]) -> Result<()> {
    let lab = find(lab)?;
    if host != "switch" && !lab.hosts.iter().any(|known| known == host) {
        bail!("lab {} has no host `{host}`: it has {} switch", lab.id, lab.hosts.join(" "));
    }
    let namespace = Namespace::open(&state::namespace(&lab.id, host))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("enter namespace {}", namespace.name()))?;
    let (program, arguments) = command.split_first().context("a command")?;
    // `pgha` is the one of this build.
    let mut process = match program.as_str() {
        "pgha" => Command::new(pgha_binary()?),
        program => Command::new(program),
    };
    process.args(arguments);
    client_environment(&mut process);
    let socket = lab.places().data.join(host);
    if socket.join("data").is_dir() {
        process.env("PGHOST", socket);
    }
    let error = process.exec();
    Err(error).with_context(|| format!("run `{program}`"))
}

/// Until it is killed, each renewal in the log as soon as the guardian has confirmed it.
#[tokio::main(flavor = "current_thread")]
async fn renew(charge: &Charge, lease: Duration, socket: &Path) -> Result<()> {
    let mut guardian = Client::connect(socket).await?;
    guardian.guard(charge).await?;
    loop {
        let until = clock::now() + lease;
        guardian.surrender_at(charge.start, until).await?;
        println!("renewed {}", until.milliseconds());
        tokio::time::sleep(lease / 20).await;
    }
}

fn list() -> Result<()> {
    let labs = state::all()?;
    if labs.is_empty() {
        println!("no labs");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    for lab in labs {
        let age = now.saturating_sub(Duration::from_secs(lab.created)).as_secs();
        let standing = match &lab.owner {
            None => "kept".to_owned(),
            Some(owner) if owner.lives() => format!("of process {}", owner.pid),
            Some(owner) => format!("left over by process {}", owner.pid),
        };
        println!("{}  {standing}, {age} s old: {}", lab.id, lab.hosts.join(" "));
    }
    Ok(())
}

fn down(lab: &State) -> Result<()> {
    if let Some(owner) = lab.owner.as_ref().filter(|owner| owner.lives()) {
        bail!("lab {} belongs to process {}: end that, and the lab ends too", lab.id, owner.pid);
    }
    reaper::tear_down(&lab.id)?;
    println!("lab {} is gone", lab.id);
    Ok(())
}

fn down_all() -> Result<()> {
    for id in reaper::sweep()? {
        println!("left-over lab {id} is gone");
    }
    state::all()?.iter().filter(|lab| lab.is_kept()).try_for_each(down)
}

/// The lab of that id, or the newest kept one.
fn find(id: Option<&str>) -> Result<State> {
    match id {
        Some(id) => state::load(id)?.with_context(|| format!("no lab {id}: see `lab list`")),
        None => state::all()?
            .into_iter()
            .rfind(State::is_kept)
            .context("no kept lab: make one with `lab up`, or name one of `lab list` with --lab"),
    }
}
