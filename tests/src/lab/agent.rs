//! Managed nodes: `pgha agent` on hosts with PostgreSQL.
mod layers;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use pgha_ctl::agent::status::{AgentStatus, RoleStatus};
use pgha_machine::Wal;

use super::config::CLUSTER;
use super::etcd::Members;
use super::host::Host;
use super::plan::{INTERFACE, Network, READER_VIP, WRITER_VIP};
use super::postgres::{MONITOR, PORT, Postgres, bin_directory};
use super::process::{Cmd, Running};
use super::service::Launch;
use super::wait::{SOON, wait_for, wait_until};
use super::{Director, Lab, PostgresOptions};

pub use layers::Frozen;

/// Where agents listen.
const AGENTS: u16 = 7432;
/// What a role must be allowed for `pg_rewind` (its documentation, "Notes").
const REWIND: &str = "grant execute on function pg_ls_dir(text, boolean, boolean), \
     pg_stat_file(text, boolean), pg_read_binary_file(text), \
     pg_read_binary_file(text, bigint, bigint, boolean)";
/// The shortest lease that gives a store the time that the lab gives it.
const PATIENT: Duration = Duration::from_secs(5);
/// Where the kernel's cgroups of version 2 are.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A managed node: an agent, and the PostgreSQL that it runs. Dropping it ends both.
#[derive(Debug)]
pub struct Agent {
    postgres: Postgres,
    config: PathBuf,
    cgroup: PathBuf,
    running: Mutex<Option<Running>>,
}

/// How managed nodes are to be.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Keys of `[failover]`.
    pub failover: String,
    /// Keys of `[agent]`.
    pub agent: String,
    /// How long the lease is. A machine of tests may stand still for a while.
    pub lease: Duration,
    /// The host of the controller, where there is one.
    pub controller: Option<&'static str>,
    /// The record is in a file of the controller, on a disk of its own, and there is no etcd.
    pub local: bool,
    /// The writer VIP. One in the network behind is put on a second interface.
    pub writer_vip: IpAddr,
    /// The controller has the writer VIP, and sends writers to the primary.
    pub balanced: bool,
    /// Keys of a `[[node]]`, by its name.
    pub nodes: Vec<(&'static str, &'static str)>,
    /// Whether what they write goes to the disk, durably, as on real hosts.
    pub durable: bool,
    /// The host of another one, which is known to all and which a test starts itself.
    pub beside: Option<&'static str>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            failover: "mode = \"sync\"\nquorum = 1\n".to_owned(),
            agent: String::new(),
            lease: Duration::from_secs(10),
            controller: None,
            local: false,
            balanced: false,
            nodes: Vec::new(),
            durable: false,
            writer_vip: WRITER_VIP.into(),
            beside: None,
        }
    }
}

/// A primary and its standbys as an operator prepares them: every node has a role for the others, and nothing
/// runs. Their agents are not started yet.
///
/// # Errors
/// When PostgreSQL cannot be set up.
pub fn prepare(
    lab: &Lab,
    names: &[&str],
    store: &Members,
    options: &AgentOptions,
) -> Result<Vec<Agent>> {
    lab.hosts(names)?;
    if !Network::Front.has(options.writer_vip) {
        names.iter().try_for_each(|name| lab.second_interface(name))?;
    }
    let (first, others) = names.split_first().context("a node")?;
    let fsync = if options.durable { "on" } else { "off" };
    let primary = lab.primary_with(first, &PostgresOptions::default().guc("fsync", fsync))?;
    for name in names {
        primary.psql(&format!("create role {name} login replication; {REWIND} to {name}"))?;
    }
    primary.psql("create role root login in role pg_monitor")?;
    primary.psql("create table acknowledged (id bigint primary key, server text)")?;
    let standbys = lab.standbys(others, first)?;
    let all: Vec<_> = std::iter::once(primary).chain(standbys).collect();
    // The primary first: then the others have all of it.
    all.iter().try_for_each(Postgres::stop)?;
    all.into_iter().map(|postgres| Agent::new(lab, postgres, names, store, options)).collect()
}

impl Agent {
    fn new(
        lab: &Lab,
        postgres: Postgres,
        names: &[&str],
        store: &Members,
        options: &AgentOptions,
    ) -> Result<Self> {
        let host = postgres.host();
        let config = lab.directory().join(format!("{}-agent.toml", host.name()));
        let root = CGROUPS.iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let root = Path::new(root.context("cgroups of version 2")?);
        let cgroup = root.join(format!("pgha-lab-{}-{}", lab.id(), host.name()));
        fs::create_dir(&cgroup).with_context(|| cgroup.display().to_string())?;
        let agent = Self { config, cgroup, running: Mutex::default(), postgres };
        let text = agent.text(lab, names, store, options)?;
        fs::write(&agent.config, text)?;
        Ok(agent)
    }

    fn text(
        &self,
        lab: &Lab,
        names: &[&str],
        store: &Members,
        options: &AgentOptions,
    ) -> Result<String> {
        let (host, home) = (self.host(), self.postgres.home());
        let bpffs = lab.bpffs().join(host.name());
        fs::create_dir_all(&bpffs)?;
        Ok(format!(
            "{}[director]\ninterface = \"{INTERFACE}\"\nbpffs = {bpffs:?}\n\
             [agent]\nnode = \"{}\"\ndata = {:?}\nbin = {:?}\nruntime = {:?}\nstate = {:?}\ncgroup = {:?}\n{}",
            common(lab, host, names, store, options)?,
            host.name(),
            self.postgres.data(),
            bin_directory()?,
            self.runtime(),
            home.join("agent"),
            self.cgroup,
            options.agent,
        ))
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        self.postgres.host()
    }

    /// Its PostgreSQL.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// `pgha` with these arguments on its host, with its configuration.
    ///
    /// # Errors
    /// Without the `pgha` binary.
    pub fn pgha(&self, arguments: &[&str]) -> Result<Cmd> {
        self.verb_of(&Launch::default(), arguments)
    }

    fn verb_of(&self, launch: &Launch<'_>, arguments: &[&str]) -> Result<Cmd> {
        let command = launch.command(self.host())?;
        Ok(command.args([Path::new("--config"), &self.config]).args(arguments))
    }

    /// Starts the agent, and waits until it answers.
    ///
    /// # Errors
    /// When it ends instead; with its log.
    pub fn start(&self) -> Result<()> {
        self.start_as(&Launch::default())
    }

    /// The same in another manner.
    ///
    /// # Errors
    /// When it ends instead; with its log.
    pub fn start_as(&self, launch: &Launch<'_>) -> Result<()> {
        let log = self.host().log_path("agent");
        let running =
            self.verb_of(launch, &["agent"])?.env("PGHA_LOG", "pgha_ctl=debug").start(&log)?;
        *self.running() = Some(running);
        wait_for(format!("the agent of {} to answer", self.host().name()), SOON, || {
            let running = self.running();
            let lives = running.as_ref().context("an agent")?.is_running()?;
            drop(running);
            if lives { self.status().map(|_| Some(true)) } else { Ok(Some(false)) }
        })?
        .then_some(())
        .with_context(|| format!("the agent of {} ended:\n{}", self.host().name(), self.log()))
    }

    /// The process id of the agent.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.running().as_ref().context("an agent")?.pid())
    }

    /// Where the agent keeps what does not outlive a restart of the machine.
    pub fn runtime(&self) -> PathBuf {
        self.postgres.home().join("runtime")
    }

    /// Ends the agent alone, with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Ends the agent alone, in good order.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn terminate(&self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    fn end(&self, signal: Signal) -> Result<()> {
        let running = self.running().take().context("an agent")?;
        running.signal(signal)?;
        running.wait(SOON).map(drop)
    }

    /// Sends the agent a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.running().as_ref().context("an agent")?.signal(signal)
    }

    /// How it is, by the agent's word.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn status(&self) -> Result<AgentStatus> {
        let told = self.pgha(&["agent", "status", "--json"])?.run()?;
        Ok(serde_json::from_str(&told)?)
    }

    /// Waits until PostgreSQL is that, by the agent's word.
    ///
    /// # Errors
    /// When it is not in time; with the agent's log.
    pub fn wait_role(&self, role: RoleStatus) -> Result<AgentStatus> {
        let what = format!("{} to be {role:?}", self.host().name());
        let found = wait_for(what, SOON * 2, || {
            let status = self.status()?;
            if status.role != role {
                bail!("{}", status.role_text);
            }
            Ok(Some(status))
        });
        found.with_context(|| format!("the end of its log:\n{}", self.tail()))
    }

    /// Waits until the agent knows where the log of its node ends: a moment after PostgreSQL has come up.
    ///
    /// # Errors
    /// When it does not in time; with the agent's log.
    pub fn wait_log(&self) -> Result<Wal> {
        let what = format!("the end of the log of {}", self.host().name());
        let found = wait_for(what, SOON * 2, || Ok(self.status()?.wal));
        found.with_context(|| format!("the end of its log:\n{}", self.tail()))
    }

    /// SQL over the socket of the agent.
    ///
    /// # Errors
    /// When psql cannot connect or a statement fails.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let socket = self.runtime().join("socket");
        let command = self.host().command(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h"])?;
        command.args([&socket]).args(["-c", sql]).run()
    }

    /// A session over the socket of the agent that does this, beside the test.
    ///
    /// # Errors
    /// When psql cannot be started.
    pub fn session(&self, sql: &str) -> Result<Running> {
        let socket = self.postgres.home().join("runtime").join("socket");
        let command = self.host().command(["psql", "-XAtq", "-h"])?.args([&socket]);
        command.args(["-c", sql]).start(&self.host().log_path("session"))
    }

    /// Waits until it streams, by the word of its own server.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_streaming(&self) -> Result<()> {
        let what = format!("{} to stream", self.host().name());
        let streams = wait_until(what, SOON * 2, || {
            Ok(self.psql("select status from pg_stat_wal_receiver")? == "streaming")
        });
        streams.with_context(|| format!("the end of its log:\n{}", self.tail()))
    }

    /// Waits until no process of PostgreSQL is left.
    ///
    /// # Errors
    /// When one is.
    pub fn wait_ended(&self, deadline: Duration) -> Result<()> {
        wait_until(format!("the end of PostgreSQL on {}", self.host().name()), deadline, || {
            Ok(self.postgres.processes()?.is_empty())
        })
    }

    /// Waits until commits wait for a quorum of so many voters, and the record says so.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn wait_voters(&self, count: usize) -> Result<()> {
        wait_until(format!("{count} voters"), SOON * 2, || {
            let status = self.status()?;
            let voters = status.record.context("a record")?.voters;
            ensure!(voters.is_settled() && voters.wanted().nodes.len() == count, "{voters:?}");
            Ok(true)
        })
    }

    /// What writers have written, as far as this node has it.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub fn rows(&self) -> Result<BTreeSet<i64>> {
        let listed = self.psql("select id from acknowledged")?;
        Ok(listed.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// What the agents of this host have logged.
    pub fn log(&self) -> String {
        fs::read(self.host().log_path("agent"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The end of that.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.running().take());
        // What is left of PostgreSQL goes with the lab's processes; its cgroups are no part of the lab.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let removed = wait_until("the end of its cgroups", SOON, || {
            remove(&self.cgroup);
            Ok(!self.cgroup.exists())
        });
        if let Err(error) = removed {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Writes the configuration of a controller that decides about these nodes, and balances to them.
///
/// # Errors
/// When the file cannot be written.
pub fn configure(
    director: &Director,
    lab: &Lab,
    names: &[&str],
    store: &Members,
    options: &AgentOptions,
) -> Result<()> {
    let (bpffs, control) = (director.bpffs(), director.control_path());
    let section = format!(
        "[director]\ninterface = \"{INTERFACE}\"\nbpffs = {bpffs:?}\ncontrol = {control:?}\n"
    );
    let text = common(lab, director.host(), names, store, options)? + &section;
    director.write_config(&text)
}

/// What is the same in the configuration of every process.
fn common(
    lab: &Lab,
    host: &Host,
    names: &[&str],
    store: &Members,
    options: &AgentOptions,
) -> Result<String> {
    let folder = if options.local && options.controller == Some(host.name()) {
        lab.directory().join("disk")
    } else {
        lab.directory().to_owned()
    };
    let seen = folder.join(format!("{}.seen", host.name()));
    let lease = format!("[lease]\nduration = \"{}ms\"\n", options.lease.as_millis());
    let mut section = store.section(host, &seen).replace("[lease]\nprofile = \"safe\"\n", &lease);
    if options.lease < PATIENT {
        section = section.replace("timeout = \"1500ms\"\n", "");
    }
    let mut text = format!(
        "cluster = \"{CLUSTER}\"\n\
         [api]\nlisten = \"{}:{AGENTS}\"\ntls = {:?}\n[postgres]\nuser = \"{MONITOR}\"\n\
         [[service]]\nname = \"reader\"\nvip = \"{READER_VIP}\"\ndiscovery = \"{}\"\n\
         {section}[failover]\nport = {PORT}\nwriter_vip = \"{}\"\nwriter = \"{}\"\n{}",
        host.address(),
        store.credentials(host),
        if options.controller.is_some() { "agents" } else { "direct" },
        options.writer_vip,
        if options.balanced { "balancer" } else { "agent" },
        options.failover,
    );
    for member in lab.hosts(names)? {
        let (name, address) = (member.name(), member.address());
        write!(
            text,
            "\n[[node]]\nname = \"{name}\"\naddress = \"{address}\"\nagent = \"{address}:{AGENTS}\"\n"
        )?;
        for (_, keys) in options.nodes.iter().filter(|(of, _)| *of == name) {
            writeln!(text, "{keys}")?;
        }
    }
    for controller in [options.controller, options.beside].into_iter().flatten() {
        let address = lab.host(controller)?.address();
        write!(
            text,
            "\n[[controller]]\nname = \"{controller}\"\naddress = \"{address}:{AGENTS}\"\n"
        )?;
    }
    Ok(text)
}

/// Removes cgroups from the bottom up, as far as they are empty.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}
