//! Cgroups for processes of a lab.
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Lab;
use super::wait::{SOON, wait_until};

/// The directory of all labs below the root of the hierarchy.
const LABS: &str = "pgha-lab";

/// A cgroup (v2), emptied and removed when it is dropped; also by the lab's end, whoever brings that about.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Lab {
    /// A new cgroup.
    ///
    /// # Errors
    /// When no cgroup v2 hierarchy is mounted, or it cannot be made.
    pub fn cgroup(&self, name: &str) -> Result<Cgroup> {
        let path = root()?.join(LABS).join(self.id()).join(name);
        fs::create_dir_all(&path).with_context(|| format!("cgroup {}", path.display()))?;
        Ok(Cgroup { path })
    }
}

impl Cgroup {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id: the inode number of the directory.
    ///
    /// # Errors
    /// When it is gone.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }

    /// The processes in it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn processes(&self) -> Result<Vec<i32>> {
        processes(&self.path)
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self, pid: i32) -> Result<()> {
        write(&self.path, "cgroup.procs", &pid.to_string())
    }

    /// Stops every process in it at the next moment it would run, and waits until they stand.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self) -> Result<()> {
        freeze(&self.path)
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn thaw(&self) -> Result<()> {
        thaw(&self.path)
    }

    /// Kills every process in it and removes it.
    ///
    /// # Errors
    /// When it is not empty in time.
    pub fn remove(&self) -> Result<()> {
        remove(&self.path)
    }

    /// For a process that is to enter it.
    pub(super) fn entrance(&self) -> Result<OwnedFd> {
        let entrance = OpenOptions::new().write(true).open(self.path.join("cgroup.procs"));
        Ok(File::into(entrance.with_context(|| self.path.display().to_string())?))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Stops every process in a cgroup and below it, and waits until they stand.
pub(super) fn freeze(path: &Path) -> Result<()> {
    write(path, "cgroup.freeze", "1")?;
    wait_until("the cgroup to be frozen", SOON, || {
        Ok(fs::read_to_string(path.join("cgroup.events"))?.contains("frozen 1"))
    })
}

pub(super) fn thaw(path: &Path) -> Result<()> {
    write(path, "cgroup.freeze", "0")
}

fn write(path: &Path, file: &str, text: &str) -> Result<()> {
    let path = path.join(file);
    fs::write(&path, text).with_context(|| format!("{text} to {}", path.display()))
}

/// Removes what a lab has left.
pub(super) fn remove_all(lab: &str) -> Result<()> {
    let Ok(root) = root() else { return Ok(()) };
    let all = root.join(LABS).join(lab);
    let Ok(entries) = fs::read_dir(&all) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    remove(&all)
}

fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    fs::write(path.join("cgroup.kill"), "1").with_context(|| path.display().to_string())?;
    wait_until(format_args!("{} to be empty", path.display()), SOON, || {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                bail!("{error}: {:?}", processes(path)?)
            }
            _ => Ok(true),
        }
    })
}

fn processes(path: &Path) -> Result<Vec<i32>> {
    let text = fs::read_to_string(path.join("cgroup.procs"))?;
    text.lines().map(|line| Ok(line.parse()?)).collect()
}

/// Where the cgroup v2 hierarchy is mounted (proc_pid_mountinfo(5): the kind of file system comes after " - ").
fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
    });
    mounted.map(PathBuf::from).context("no cgroup v2 hierarchy is mounted on this machine")
}
