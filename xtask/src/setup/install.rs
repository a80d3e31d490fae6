//! Installs packages without starting what they contain.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::packages::{self, POSTGRESQL, Package};
use super::temporary_file::TemporaryFile;
use crate::exec::{exec_to_stderr, step};

#[cfg(test)]
mod tests;

/// Asked by invoke-rc.d before it starts a service; 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const FORBID_EVERY_START: &str = "#!/bin/sh
# Made by cargo xtask setup for the time of an installation.
exit 101
";

/// Read by the installation of a PostgreSQL server, and the folder that it includes.
const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";
const CREATE_CLUSTER_FOLDER: &str = "/etc/postgresql-common/createcluster.d";
const NO_MAIN_CLUSTER: &str = "# Made by cargo xtask setup for the time of an installation.
create_main_cluster = false
";

/// Somebody wants an end, and not only of the installation.
#[derive(Debug)]
pub(super) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; the next `cargo xtask setup` completes the installation")
    }
}

impl std::error::Error for Interrupted {}

/// Installs `packages`; no service is started and no PostgreSQL cluster is created.
pub(super) fn install(packages: &[&Package]) -> Result<()> {
    let interrupts = Interrupts::hold_back()?;
    let _policy = TemporaryFile::create(Path::new(POLICY), FORBID_EVERY_START, 0o755)?;
    let _no_cluster = if packages.iter().any(|package| package.name == POSTGRESQL) {
        forbid_main_cluster()?
    } else {
        None
    };
    let done = apt(packages, &interrupts);
    if interrupts.any() {
        return Err(Interrupted.into());
    }
    done.map_err(|error| anyhow!("{error:#}; type: {}", packages::typed(packages, true)))
}

fn apt(packages: &[&Package], interrupts: &Interrupts) -> Result<()> {
    step("set-up: fetching the lists of packages");
    exec_to_stderr(unattended(Command::new("apt-get").arg("update")))?;
    if interrupts.any() {
        return Ok(());
    }
    step("set-up: installing the packages");
    let mut install = packages::install_command(packages);
    // Another apt may be at work; and a changed configuration file stays as the admin left it.
    install.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]);
    exec_to_stderr(unattended(&mut install))
        .map_err(|_| anyhow!("apt-get install failed for the reason it gives above"))
}

fn unattended(apt: &mut Command) -> &mut Command {
    apt.env("DEBIAN_FRONTEND", "noninteractive").env_remove("LD_LIBRARY_PATH").stdin(Stdio::null())
}

fn forbid_main_cluster() -> Result<Option<TemporaryFile>> {
    // Files there are read in the order of their names, and the last one wins.
    let path = Path::new(CREATE_CLUSTER_FOLDER).join("zz-pgha-setup.conf");
    let file = TemporaryFile::create(&path, NO_MAIN_CLUSTER, 0o644)?;
    // Where the file does not exist yet, the package brings one that includes the folder.
    if let Ok(configuration) = fs::read_to_string(CREATE_CLUSTER)
        && !forbids_main_cluster(&configuration)
    {
        bail!(
            "{CREATE_CLUSTER} does not include {CREATE_CLUSTER_FOLDER}, so that installing \
             {POSTGRESQL} would create a cluster: add the line `create_main_cluster = false` to it"
        );
    }
    Ok(file)
}

/// Whether `configuration` has no main cluster created while the folder it may include forbids it.
fn forbids_main_cluster(configuration: &str) -> bool {
    let mut forbidden = false;
    for line in configuration.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split(|c: char| c == '=' || c == '\'' || c.is_whitespace());
        let mut word = || words.find(|word| !word.is_empty()).unwrap_or_default();
        match (word(), word()) {
            ("create_main_cluster", value) => {
                forbidden = matches!(value, "false" | "off" | "no" | "0");
            }
            ("include_dir", CREATE_CLUSTER_FOLDER | "createcluster.d") => forbidden = true,
            _ => {}
        }
    }
    forbidden
}

/// Keeps the signals that ask for an end from ending this process before it has cleaned up.
///
/// apt-get receives those of the terminal itself, and ends in a way that it can recover from.
struct Interrupts {
    seen: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Interrupts {
    fn hold_back() -> Result<Self> {
        let this = Self { seen: Arc::default(), over: Arc::default() };
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&this.over))
                .and_then(|_| flag::register(signal, Arc::clone(&this.seen)))
                .with_context(|| format!("cannot catch signal {signal} during the installation"))?;
        }
        Ok(this)
    }

    fn any(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}
