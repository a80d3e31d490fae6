//! What stops the layers of a managed node: the agent, its guardian, and PostgreSQL itself.
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Agent;
use crate::lab::Lab;
use crate::lab::cgroup::{self, Cgroup};

/// A node on which nothing of pgha and PostgreSQL runs. Dropping it ends agent and guardian.
#[derive(Debug)]
pub struct Frozen {
    beside: Cgroup,
    postgres: PathBuf,
}

impl Frozen {
    /// Lets everything go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn thaw(&self) -> Result<()> {
        cgroup::thaw(&self.postgres)?;
        self.beside.thaw()
    }
}

impl Agent {
    /// The process id of its guardian.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn guardian(&self) -> Result<i32> {
        let socket = self.postgres.home().join("runtime").join("guardian.sock");
        let socket = socket.display().to_string();
        let guards = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split('\0').collect();
            words.get(1) == Some(&"guardian") && words.contains(&socket.as_str())
        };
        let found: Vec<_> =
            self.host().namespace().processes()?.into_iter().filter(guards).collect();
        match found[..] {
            [pid] => Ok(pid),
            _ => bail!("guardians of {}: {found:?}", self.host().name()),
        }
    }

    /// Sends its guardian a signal.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal_guardian(&self, signal: Signal) -> Result<()> {
        let pid = self.guardian()?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to guardian {pid}"))
    }

    /// Sends agent and guardian SIGSTOP or SIGCONT, and neither can act for the other meanwhile.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn signal_both(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        self.signal_guardian(signal)
    }

    /// Ends agent and guardian with SIGKILL. PostgreSQL runs on.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn kill_both(&self) -> Result<()> {
        // One that runs would start another guardian.
        self.signal(Signal::SIGSTOP)?;
        self.signal_guardian(Signal::SIGKILL)?;
        self.kill()
    }

    /// Stops everything of pgha and PostgreSQL on the node by the kernel's freezer, as a machine that stands
    /// still.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self, lab: &Lab) -> Result<Frozen> {
        let beside = lab.cgroup(&format!("beside-{}", self.host().name()))?;
        let agent = self.running().as_ref().context("an agent")?.pid();
        for pid in [agent, self.guardian()?] {
            beside.take(pid)?;
        }
        beside.freeze()?;
        cgroup::freeze(&self.cgroup)?;
        Ok(Frozen { beside, postgres: self.cgroup.clone() })
    }
}
