//! Network namespaces, entered by `setns` alone.
//!
//! `ip netns exec` and `ip -n` are not used: they give the process a mount namespace of its own
//! with a fresh `/sys`, where no pinned BPF object can be seen.
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::process::Cmd;

const NETNS_DIR: &str = "/run/netns";

/// A network namespace with a name, held open.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    inode: u64,
}

impl Namespace {
    /// Opens the namespace that `ip netns` knows by that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(name: &str) -> Result<Self> {
        let path = path_of(name);
        let file = File::open(&path).with_context(|| format!("namespace {}", path.display()))?;
        let inode = file.metadata()?.ino();
        Ok(Self { name: name.to_owned(), file, inode })
    }

    /// Creates namespaces, all in one run of `ip`.
    pub(super) fn create(names: &[String]) -> Result<()> {
        ip_batch(None, names.iter().map(|name| format!("netns add {name}")))
    }

    /// The name `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure on a thread of its own inside the namespace. Sockets it makes stay in there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, when the closure fails or panics.
    pub fn inside<T: Send>(&self, task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("enter namespace {}", self.name))?;
                task()
            });
            inside.join().unwrap_or_else(|_| Err(anyhow!("a panic inside {}", self.name)))
        })
    }

    /// The ids of the processes inside, in ascending order; this process is never one of them.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn processes(&self) -> Result<Vec<i32>> {
        processes_in(&[self.inode])
    }

    /// Whether the process is alive (a zombie is not) and inside.
    pub fn holds(&self, pid: i32) -> bool {
        inode_of_process(pid) == Some(self.inode)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub(super) fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// The processes inside any of these namespaces, but this one.
pub(super) fn processes_in(inodes: &[u64]) -> Result<Vec<i32>> {
    let own = i32::try_from(std::process::id())?;
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if pid != own && inode_of_process(pid).is_some_and(|inode| inodes.contains(&inode)) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// None when the process is gone, and for a zombie, which is in no namespace any more.
fn inode_of_process(pid: i32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|metadata| metadata.ino())
}

/// Runs lines of `ip` commands in one process, inside a namespace or in the machine's own.
pub(super) fn ip_batch(
    namespace: Option<&Namespace>,
    lines: impl IntoIterator<Item = String>,
) -> Result<()> {
    let mut script = lines.into_iter().collect::<Vec<_>>().join("\n");
    script.push('\n');
    let command = Cmd::new(["ip", "-batch", "-"]).stdin(&script);
    let command = match namespace {
        Some(namespace) => command.in_namespace(namespace)?,
        None => command,
    };
    command.run().map(drop).with_context(|| format!("ip -batch of:\n{script}"))
}
