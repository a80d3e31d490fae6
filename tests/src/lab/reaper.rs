//! The end of a lab: by its owner, by the reaper when the owner could not, or by whoever makes the
//! next lab when there was no reaper either.
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use super::artifacts;
use super::cgroup;
use super::disk;
use super::netns::{self, ip_batch};
use super::state::{self, State};
use super::wait::wait_for;

const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// The process that tears a lab down when its owner's end of a pipe closes, however that happens.
#[derive(Debug)]
pub(super) struct Reaper {
    process: Child,
    pipe: ChildStdin,
}

impl Reaper {
    /// Starts `lab reap <id>` in a session of its own, out of reach of the keyboard.
    pub(super) fn start(state: &State) -> Result<Self> {
        let log = File::create(state.places().log.join("reaper.log"))?;
        let mut command = Command::new(artifacts::lab_binary()?);
        command.args(["reap", &state.id]).current_dir("/");
        // std opens pipes close-on-exec: no other child of the owner keeps this one's end open.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        // SAFETY: the closure makes one system call in the forked child.
        unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
        let mut process = command.spawn().context("start the reaper")?;
        let pipe = process.stdin.take().context("the reaper's pipe")?;
        Ok(Self { process, pipe })
    }

    /// Lets the reaper see that nothing is left to do, or that the lab is kept.
    pub(super) fn dismiss(mut self) -> Result<()> {
        drop(self.pipe);
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the reaper ended by {status}");
        }
        Ok(())
    }
}

/// What the reaper does: waits for the end of its standard input, then tears the lab down unless it
/// is kept or gone.
///
/// # Errors
/// As [`tear_down`].
pub fn reap(id: &str) -> Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    match state::load(id)? {
        Some(state) if !state.is_kept() => tear_down(id),
        Some(_) | None => Ok(()),
    }
}

/// Tears down every lab whose owner ended without doing so, and returns their ids.
///
/// # Errors
/// When the labs cannot be listed, or one of them cannot be torn down.
pub fn sweep() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for state in state::all()?.into_iter().filter(State::is_left_over) {
        tear_down(&state.id).with_context(|| format!("left-over lab {}", state.id))?;
        swept.push(state.id);
    }
    Ok(swept)
}

/// Ends every process inside a lab and removes all that belongs to it. A lab that is gone already
/// is a success; several processes may do this at once.
///
/// # Errors
/// When something of the lab could not be removed; its record stays, so that it can be repeated.
pub fn tear_down(id: &str) -> Result<()> {
    let Some(state) = state::load(id)? else { return Ok(()) };
    let run = state.places().run;
    let Some(_lock) = lock_directory(&run)? else { return Ok(()) };
    // The record may have grown before the lock was granted.
    let Some(state) = state::load(id)? else { return Ok(()) };
    let names: Vec<String> =
        state.namespaces().filter(|name| netns::path_of(name).exists()).collect();
    let disks = disk::release(&state.places())?;
    kill_inside(&names)?;
    cgroup::remove_all(id)?;
    unmount(&state.places().bpf)?;
    disks.iter().try_for_each(|disk| unmount(disk))?;
    ip_batch(None, names.iter().map(|name| format!("netns del {name}")))?;
    unmount(&state.places().data)?;
    remove(&state.places().data)?;
    // The record goes last but for its directory.
    remove(&state.places().bpf)?;
    remove(&state.places().log)?;
    remove(&run)
}

/// None when the directory is gone.
fn lock_directory(path: &Path) -> Result<Option<Flock<File>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(|| format!("directory {}", path.display()))?,
    };
    Flock::lock(file, FlockArg::LockExclusive)
        .map(Some)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("lock {}", path.display()))
}

/// Kills until nobody is inside, for a process may fork while the others are being listed.
fn kill_inside(namespaces: &[String]) -> Result<()> {
    let inodes = namespaces
        .iter()
        .map(|name| {
            let path = netns::path_of(name);
            let metadata = fs::metadata(&path).with_context(|| path.display().to_string())?;
            Ok(metadata.ino())
        })
        .collect::<Result<Vec<_>>>()?;
    wait_for("the end of the lab's processes", KILL_DEADLINE, || {
        let pids = netns::processes_in(&inodes)?;
        for &pid in &pids {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => bail!("kill {pid}: {errno}"),
            }
        }
        if !pids.is_empty() {
            bail!("{pids:?}");
        }
        Ok(Some(()))
    })
}

fn unmount(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not mounted, or not there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("unmount {}", path.display())),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
