//! Cgroups: each start of PostgreSQL has one of its own, so that nothing it left behind can hide.
//!
//! They are `<parent>/pgha/<cluster>/start-<n>`, and `tool-<n>` for the programs that rewind and copy; `n` grows
//! (milliseconds since the machine was started). What is killed is killed by the kernel in one step
//! (`cgroup.kill`, Linux 5.14), and that nothing is left is the kernel's word, too (`populated 0`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep};

#[cfg(test)]
mod tests;

/// Between two looks at whether a cgroup is empty.
const LOOK: Duration = Duration::from_millis(2);

/// A cgroup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no cgroup v2.
    #[error(
        "no cgroup v2 hierarchy is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), PostgreSQL \
         cannot be fenced without"
    )]
    NotMounted,
    /// What is to be the parent of PostgreSQL's is none.
    #[error(
        "{} is no directory of a mounted cgroup v2 hierarchy, so nothing can be fenced there: correct [agent] cgroup, \
         or leave it out for the agent's own",
        .0.display()
    )]
    NotOne(PathBuf),
    /// The kernel, or its files.
    #[error("cannot {what} {}: {error}{}", .path.display(), mend(.error))]
    File {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It goes on.
    #[error(
        "{} is not empty {} ms after it was killed: its processes {processes:?} wait for a disk or for a \
         debugger",
        .path.display(),
        .within.as_millis()
    )]
    NotEmpty {
        /// Which.
        path: PathBuf,
        /// After how long.
        within: Duration,
        /// Who.
        processes: Vec<i32>,
    },
}

fn mend(error: &io::Error) -> &'static str {
    let refused = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
    if refused.contains(&error.kind()) {
        "; have the cgroup delegated to the agent (Delegate=yes in its unit)"
    } else {
        ""
    }
}

fn failed<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> CgroupError + 'p {
    move |error| CgroupError::File { what, path: path.to_owned(), error }
}

/// The cgroups of one cluster's PostgreSQL on this machine.
#[derive(Clone, Debug)]
pub(super) struct Cgroups(PathBuf);

impl Cgroups {
    /// Those of a cluster, below `parent`, or below this process's own.
    ///
    /// # Errors
    /// Without cgroup v2, or where they cannot be made.
    pub(super) fn of(cluster: &str, parent: Option<&Path>) -> Result<Self, CgroupError> {
        let parent = match parent {
            Some(parent) if is_one(parent) => parent.to_owned(),
            Some(parent) => return Err(CgroupError::NotOne(parent.to_owned())),
            None => own()?,
        };
        let directory = parent.join("pgha").join(cluster);
        fs::create_dir_all(&directory).map_err(failed("make", &directory))?;
        Ok(Self(directory))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A new one, called after what runs in it.
    pub(super) fn fresh(&self, called: &str) -> Result<Cgroup, CgroupError> {
        // Who delegated it may have removed it while nothing was in it.
        fs::create_dir_all(&self.0).map_err(failed("make", &self.0))?;
        let mut number = boot_time();
        loop {
            let path = self.0.join(format!("{called}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Cgroup { path, number }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(failed("make", &path)(error)),
            }
        }
    }

    /// Those that are there.
    pub(super) fn all(&self) -> Result<Vec<Cgroup>, CgroupError> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            read => read.map_err(failed("list", &self.0))?,
        };
        let groups = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.rsplit_once('-')?.1.parse().ok()?;
            Some(Cgroup { path: entry.path(), number })
        });
        Ok(groups.collect())
    }

    /// Ends every process in each of them, and removes them.
    ///
    /// # Errors
    /// Where one is not empty in time.
    pub(super) async fn kill(&self, within: Duration) -> Result<(), CgroupError> {
        kill(&self.all()?, within).await
    }

    /// The same for those that are called that.
    ///
    /// # Errors
    /// As [`Self::kill`].
    pub(super) async fn kill_those(
        &self,
        called: &str,
        within: Duration,
    ) -> Result<(), CgroupError> {
        let is_called = |group: &Cgroup| {
            let name = group.path.file_name().unwrap_or_default().to_string_lossy();
            name.rsplit_once('-').is_some_and(|(before, _)| before == called)
        };
        let groups: Vec<_> = self.all()?.into_iter().filter(is_called).collect();
        kill(&groups, within).await
    }
}

async fn kill(groups: &[Cgroup], within: Duration) -> Result<(), CgroupError> {
    // All are told before any is waited for.
    for group in groups {
        group.kill()?;
    }
    for group in groups {
        group.emptied(within).await?;
        group.remove()?;
    }
    Ok(())
}

/// One cgroup.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    number: u64,
}

impl Cgroup {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The ids of its processes; zombies are none.
    pub(super) fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let file = self.path.join("cgroup.procs");
        match fs::read_to_string(&file) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if is_gone(&error) => Ok(Vec::new()),
            Err(error) => Err(failed("read", &file)(error)),
        }
    }

    /// Whether there is a process in it.
    pub(super) fn is_populated(&self) -> Result<bool, CgroupError> {
        let file = self.path.join("cgroup.events");
        match fs::read_to_string(&file) {
            Ok(text) => Ok(!text.lines().any(|line| line == "populated 0")),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(failed("read", &file)(error)),
        }
    }

    /// Has every process in it ended, also those that are born meanwhile.
    pub(super) fn kill(&self) -> Result<(), CgroupError> {
        let file = self.path.join("cgroup.kill");
        match fs::write(&file, "1") {
            Err(error) if !is_gone(&error) => Err(failed("write 1 to", &file)(error)),
            _ => Ok(()),
        }
    }

    /// Returns when it is empty.
    pub(super) async fn emptied(&self, within: Duration) -> Result<(), CgroupError> {
        let until = Instant::now() + within;
        while self.is_populated()? {
            if Instant::now() >= until {
                let processes = self.processes()?;
                return Err(CgroupError::NotEmpty { path: self.path.clone(), within, processes });
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Removes it, which must be empty.
    pub(super) fn remove(&self) -> Result<(), CgroupError> {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a path is in a hierarchy of version 2, also one that is to be made there.
fn is_one(path: &Path) -> bool {
    let there = path.ancestors().find(|above| above.exists());
    let kind = there.and_then(|there| statfs(there).ok()).map(|found| found.filesystem_type());
    kind == Some(CGROUP2_SUPER_MAGIC)
}

/// A file of a cgroup that was removed: not there, or no device behind it any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// Milliseconds since the machine was started, those asleep included. A cgroup is gone after that anyway.
fn boot_time() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The cgroup of this process.
fn own() -> Result<PathBuf, CgroupError> {
    let read =
        |path: &'static str| fs::read_to_string(path).map_err(failed("read", Path::new(path)));
    let (mounts, member) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    locate(&mounts, &member).ok_or(CgroupError::NotMounted)
}

/// Where a process's cgroup is seen, by its `mountinfo` and its `cgroup` (proc(5), cgroups(7)).
fn locate(mounts: &str, member: &str) -> Option<PathBuf> {
    let member = Path::new(member.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        // In a container, only what lies below the mount's root is seen.
        let below = member.strip_prefix(&root).ok()?;
        Some(Path::new(&point).join(below))
    })
}

/// Space, tab, newline and backslash are written in octal there.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, character)| text.replace(code, character))
}
