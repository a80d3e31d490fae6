//! A cluster on one machine: namespaces as hosts, on a switch, with real PostgreSQL, real XDP and
//! captures. It needs root.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use pgha_tests::lab::Lab;
//!
//! let lab = Lab::new()?;
//! let primary = lab.primary("db1")?;
//! let standbys = lab.standbys(&["db2", "db3"], "db1")?;
//! assert_eq!(primary.psql("select count(*) from pg_stat_replication")?, "2");
//! # drop(standbys);
//! # Ok(())
//! # }
//! ```
//!
//! Everything in a lab ends with it: when it is dropped, when the test panics, and when the owner
//! is killed, for then the [`reaper`] does it. A lab that was [kept](Lab::keep) stays.
pub mod agent;
pub mod artifacts;
pub mod browser;
pub mod capture;
pub mod cgroup;
pub mod config;
pub mod director;
pub mod disk;
pub mod etcd;
pub mod frames;
pub mod host;
pub mod invariants;
pub mod managed;
pub mod maps;
pub mod netns;
pub mod observers;
pub mod plan;
pub mod postgres;
pub mod process;
pub mod pulse;
pub mod reader;
pub mod reaper;
pub mod service;
pub mod session;
pub mod state;
mod switch;
pub mod transaction;
pub mod wait;
pub mod writer;
pub mod xdp;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::geteuid;

pub use agent::{Agent, AgentOptions};
pub use capture::Capture;
pub use cgroup::Cgroup;
pub use director::Director;
pub use disk::Disk;
pub use host::Host;
pub use managed::Managed;
pub use plan::{Network, READER_VIP, READER_VIP6, WRITER_VIP};
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Cmd, Running};
pub use reader::Reader;
pub use session::Session;
pub use transaction::Transaction;
pub use wait::{SOON, hold_until, wait_for, wait_until};
pub use writer::Writer;
pub use xdp::Stub;

use host::Shared;
use reaper::Reaper;
use state::{State, Storage};

/// With this variable set, a lab that is dropped is kept instead, for a look around.
pub const KEEP_VARIABLE: &str = "PGHA_LAB_KEEP";

/// A lab, torn down when it is dropped.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
    members: Mutex<Members>,
    reaper: Option<Reaper>,
}

#[derive(Debug)]
struct Members {
    state: State,
    hosts: BTreeMap<String, Host>,
}

impl Lab {
    /// An empty lab: a switch. Labs that other processes left over are swept first. What its servers write is in
    /// memory.
    ///
    /// # Errors
    /// Without root, without the `lab` binary, or when the kernel lacks something.
    pub fn new() -> Result<Self> {
        Self::with(Storage::Memory)
    }

    /// [`Lab::new`] whose servers write to the disk.
    ///
    /// # Errors
    /// As that.
    pub fn on_disk() -> Result<Self> {
        Self::with(Storage::Disk)
    }

    fn with(storage: Storage) -> Result<Self> {
        require_root()?;
        reaper::sweep()?;
        let state = state::create(storage)?;
        // From here whatever happens to this process is the reaper's to clean up.
        let reaper =
            Reaper::start(&state).or_else(|error| reaper::tear_down(&state.id).and(Err(error)))?;
        let switch = match switch::build(&state.id) {
            Ok(switch) => switch,
            Err(error) => {
                reaper.dismiss()?;
                return Err(error.context("build the switch"));
            }
        };
        let shared = Arc::new(Shared::new(state.id.clone(), state.places(), switch));
        let members = Mutex::new(Members { state, hosts: BTreeMap::new() });
        Ok(Self { shared, members, reaper: Some(reaper) })
    }

    /// Its id, unique on this machine.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Its run directory: logs, configuration, control sockets, the bpffs.
    pub fn directory(&self) -> &Path {
        &self.shared.places.run
    }

    /// Its own bpffs.
    pub fn bpffs(&self) -> &Path {
        &self.shared.places.bpf
    }

    /// The host of that name, made when it is first asked for.
    ///
    /// # Errors
    /// When the [`plan`] has no such host, or it cannot be made.
    pub fn host(&self, name: &str) -> Result<Host> {
        self.hosts(&[name])?.pop().context("a host")
    }

    /// Several hosts, in the order of their names given; faster than one by one.
    ///
    /// # Errors
    /// As [`Lab::host`].
    pub fn hosts(&self, names: &[&str]) -> Result<Vec<Host>> {
        self.hosts_in(Network::Front, names)
    }

    /// Several hosts, those of them that are not there yet made in the network behind. The switch
    /// routes between the two networks from here on.
    ///
    /// # Errors
    /// As [`Lab::host`].
    pub fn back_hosts(&self, names: &[&str]) -> Result<Vec<Host>> {
        switch::build_back(&self.shared.switch)?;
        self.hosts_in(Network::Back, names)
    }

    /// Gives a host of the network in front an interface in the network behind as well,
    /// [`plan::BACK_INTERFACE`].
    ///
    /// # Errors
    /// When it has one already.
    pub fn second_interface(&self, name: &str) -> Result<()> {
        let host = self.host(name)?;
        switch::build_back(&self.shared.switch)?;
        switch::connect_back(&self.shared.switch, name, host.namespace(), host.address())
            .with_context(|| format!("second interface of {name}"))
    }

    fn hosts_in(&self, network: Network, names: &[&str]) -> Result<Vec<Host>> {
        let mut members = self.locked();
        let mut missing = Vec::new();
        for &name in names {
            let address = network.at(plan::address(name)?);
            if !members.hosts.contains_key(name) && !missing.contains(&(name, address)) {
                missing.push((name, address));
            }
        }
        if !missing.is_empty() {
            let recorded = members.state.hosts.len();
            members.state.hosts.extend(missing.iter().map(|(name, _)| (*name).to_owned()));
            if let Err(error) = members.state.save() {
                members.state.hosts.truncate(recorded);
                return Err(error);
            }
            let namespaces = switch::connect(self.id(), &self.shared.switch, &missing)?;
            for ((name, address), namespace) in missing.into_iter().zip(namespaces) {
                let host = Host::new(name, address, namespace, Arc::clone(&self.shared));
                members.hosts.insert(name.to_owned(), host);
            }
        }
        names
            .iter()
            .map(|&name| members.hosts.get(name).cloned().context("a host just made"))
            .collect()
    }

    /// All hosts made so far, in the order of their names.
    pub fn members(&self) -> Vec<Host> {
        self.locked().hosts.values().cloned().collect()
    }

    /// Runs a command on a host to a successful end and returns what it printed.
    ///
    /// # Errors
    /// As [`Cmd::run`].
    pub fn run<S: AsRef<OsStr>>(
        &self,
        host: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        self.host(host)?.run(argv)
    }

    /// A running primary on that host.
    ///
    /// # Errors
    /// When PostgreSQL cannot be set up; with the end of its log.
    pub fn primary(&self, host: &str) -> Result<Postgres> {
        self.primary_with(host, &PostgresOptions::default())
    }

    /// A running primary with options.
    ///
    /// # Errors
    /// As [`Lab::primary`].
    pub fn primary_with(&self, host: &str, options: &PostgresOptions) -> Result<Postgres> {
        postgres::create::primary(self.host(host)?, options)
    }

    /// A standby of the server on the host `upstream`, accepting connections.
    ///
    /// # Errors
    /// As [`Lab::primary`].
    pub fn standby(&self, host: &str, upstream: &str) -> Result<Postgres> {
        self.standby_with(host, upstream, &PostgresOptions::default())
    }

    /// A standby with options.
    ///
    /// # Errors
    /// As [`Lab::primary`].
    pub fn standby_with(
        &self,
        host: &str,
        upstream: &str,
        options: &PostgresOptions,
    ) -> Result<Postgres> {
        postgres::create::standby(self.host(host)?, &self.host(upstream)?, options)
    }

    /// Several standbys made at the same time, each of them streaming.
    ///
    /// # Errors
    /// The first failure among them.
    pub fn standbys(&self, hosts: &[&str], upstream: &str) -> Result<Vec<Postgres>> {
        self.hosts(hosts)?;
        thread::scope(|scope| {
            let makers: Vec<_> = hosts
                .iter()
                .map(|host| {
                    scope.spawn(move || {
                        let standby = self.standby(host, upstream)?;
                        standby.wait_streaming()?;
                        Ok(standby)
                    })
                })
                .collect();
            makers
                .into_iter()
                .map(|maker| maker.join().unwrap_or_else(|_| Err(anyhow!("a panic"))))
                .collect()
        })
    }

    /// A director on that host, not yet configured; its switch port receives `XDP_TX`.
    ///
    /// # Errors
    /// When the XDP stub cannot be attached to the port.
    pub fn director(&self, host: &str) -> Result<Director> {
        Director::new(self.host(host)?)
    }

    /// Has `pgha realserver setup` put the reader VIP on that host's loopback.
    ///
    /// # Errors
    /// When the command fails.
    pub fn realserver_setup(&self, host: &str) -> Result<()> {
        self.realserver_setup_for(host, &[READER_VIP.into()])
    }

    /// Has `pgha realserver setup` put these VIPs on that host's loopback.
    ///
    /// # Errors
    /// When the command fails.
    pub fn realserver_setup_for(&self, host: &str, vips: &[IpAddr]) -> Result<()> {
        let vips: Vec<_> = vips.iter().map(IpAddr::to_string).collect();
        let options = vips.iter().flat_map(|vip| ["--vip", vip.as_str()]);
        let arguments: Vec<_> = ["setup"].into_iter().chain(options).collect();
        self.realserver(host, &arguments)?.run().map(drop)
    }

    /// `pgha realserver` with these arguments on that host, which keeps its record in the lab.
    ///
    /// # Errors
    /// Without the `pgha` binary.
    pub fn realserver(&self, host: &str, arguments: &[&str]) -> Result<Cmd> {
        let state = self.directory().join(host);
        let command = self.host(host)?.command([artifacts::pgha_binary()?])?;
        Ok(command
            .args(["realserver"])
            .args(arguments)
            .args([OsStr::new("--state-dir"), state.as_os_str()]))
    }

    /// Ends this process's ownership: the lab stays until `lab down`.
    ///
    /// # Errors
    /// When that cannot be recorded; the lab is torn down then.
    pub fn keep(mut self) -> Result<()> {
        self.locked().state.keep()?;
        self.reaper.take().map_or(Ok(()), Reaper::dismiss)
    }

    fn locked(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(reaper) = self.reaper.take() else { return };
        if env::var_os(KEEP_VARIABLE).is_some() && self.locked().state.keep().is_ok() {
            eprintln!("lab {} is kept: end it with `lab down --lab {0}`", self.id());
        } else if let Err(error) =
            reaper::tear_down(self.id()).and_then(|()| self.shared.wait_for_daemons())
        {
            eprintln!("lab {}: {error:#}", self.id());
        }
        if let Err(error) = reaper.dismiss() {
            eprintln!("lab {}: {error:#}", self.id());
        }
    }
}

/// # Errors
/// Without root, in one sentence with the fix.
pub fn require_root() -> Result<()> {
    if !geteuid().is_root() {
        bail!("the lab makes network namespaces and needs root: run it with sudo");
    }
    Ok(())
}
