//! Processes: begun in a cgroup as another user, known by a descriptor that no later process can take over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::setsid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::cgroup::Cgroup;
use super::user::OsUser;

#[cfg(test)]
mod tests;

/// What of the agent's environment PostgreSQL is given, besides what it needs.
const INHERITED: [&str; 4] = ["PATH", "LANG", "LC_ALL", "TZ"];

/// A command that will run in that cgroup from its first instruction, as that user without any
/// capability, in a session of its own. It writes to the end of `log`.
pub(super) fn command(
    program: &Path,
    cgroup: &Cgroup,
    user: &OsUser,
    log: &File,
) -> io::Result<Command> {
    let mut entrance = OpenOptions::new().write(true).open(cgroup.path().join("cgroup.procs"))?;
    let user = user.clone();
    let enter = move || -> io::Result<()> {
        // 0 is whoever writes it.
        entrance.write_all(b"0")?;
        setsid()?;
        user.become_it()
    };
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").stdin(Stdio::null());
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    // SAFETY: the closure runs in the forked child and makes only system calls; it allocates nothing unless it fails,
    // takes no lock, and what it uses was opened and read before the fork.
    unsafe { command.pre_exec(enter) };
    Ok(command)
}

/// Whether a lock file of PostgreSQL's names a process that is dead, and whose parent has not waited for it: to
/// PostgreSQL, which sends it a signal to see, it lives (proc_pid_stat(5), state `Z`).
pub(super) fn is_lock_of_the_dead(lock: &Path) -> bool {
    let state = || {
        let pid: u32 = fs::read_to_string(lock).ok()?.lines().next()?.trim().parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may have any character in it.
        stat.rsplit_once(") ")?.1.chars().next()
    };
    state() == Some('Z')
}

/// A process, by a descriptor of the kernel's (pidfd_open(2)).
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    descriptor: AsyncFd<OwnedFd>,
    /// `None`: it was begun by an agent before this.
    child: Mutex<Option<Child>>,
}

impl Process {
    /// One that was just begun.
    pub(super) fn of(child: Child) -> io::Result<Self> {
        let pid = child.id().cast_signed();
        Ok(Self { pid, descriptor: open(pid)?, child: Mutex::new(Some(child)) })
    }

    /// One that runs. Whoever calls this makes sure afterwards that it is the one that was meant.
    pub(super) fn found(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, descriptor: open(pid)?, child: Mutex::new(None) })
    }

    pub(super) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Signals it; whether it was still there.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<bool> {
        let descriptor = self.descriptor.get_ref().as_raw_fd();
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal(2) reads no memory of ours when the third argument is null.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal as i32, none, 0)
        };
        match Errno::result(sent) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns when it has ended: how, where that is known. Cancel-safe.
    pub(super) async fn ended(&self) -> Option<ExitStatus> {
        // A descriptor that cannot be waited for any more belongs to nobody who lives.
        let _ = self.descriptor.ready(Interest::READABLE).await;
        self.reap()
    }

    /// How it ended, if it has.
    pub(super) fn has_ended(&self) -> bool {
        if self.reap().is_some() {
            return true;
        }
        !is_alive(self.pid) || !matches!(self.signal_nothing(), Ok(true))
    }

    fn signal_nothing(&self) -> io::Result<bool> {
        let descriptor = self.descriptor.get_ref().as_raw_fd();
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: as in `signal`; signal 0 only asks whether it is there.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, 0, none, 0) };
        match Errno::result(sent) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn reap(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut()?.try_wait().ok().flatten()
    }
}

fn open(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: pidfd_open(2) takes two numbers and gives a descriptor that is nobody else's.
    let descriptor = unsafe {
        let number = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        OwnedFd::from_raw_fd(i32::try_from(number).map_err(io::Error::other)?)
    };
    // SAFETY: the descriptor is closed by nobody but what owns it, which is registered here.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Whether a process is there that has not ended: a zombie has.
fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether a process waits for something other than a disk.
pub(super) fn is_asleep(pid: i32) -> bool {
    state(pid) == Some('S')
}

/// What the kernel says of a process in one letter (proc(5), `/proc/pid/stat`).
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a signal was sent to a process that has not taken it yet.
pub(super) fn is_pending(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let pending = ["SigPnd:", "ShdPnd:"].into_iter().filter_map(mask);
    let mut masks = pending.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    masks.any(|mask| mask & 1 << (signal as u64 - 1) != 0)
}

/// What a process of PostgreSQL calls itself: `walreceiver streaming 0/3000148` of
/// `postgres: db1: walreceiver streaming 0/3000148`. None for one that is gone, or that is no child of a postmaster.
pub(super) fn title(pid: i32, cluster_name: &str) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line);
    let title = line.trim_end_matches('\0').trim_end().strip_prefix("postgres: ")?;
    let own = title.strip_prefix(cluster_name).and_then(|rest| rest.strip_prefix(": "));
    Some(own.unwrap_or(title).to_owned())
}

/// The processes of whatever PostgreSQL servers there are, also of one that has no lock file yet; asked in the name of
/// their user.
pub(super) fn servers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(|pid| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        // One that was replaced by an upgrade is called `postgres (deleted)`.
        program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"postgres"))
    })
}

/// The directory that a process is in, where that may be known: to its own user.
pub(super) fn directory(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// The last lines that a log got since it was that long.
pub(super) fn last_words(log: &Path, since: u64) -> String {
    const LINES: usize = 8;
    const BYTES: u64 = 4096;
    let mut words = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let tail = file.metadata()?.len().saturating_sub(BYTES);
        file.seek(SeekFrom::Start(tail.max(since)))?;
        file.read_to_end(&mut words)
    });
    let words = read.map(|_| String::from_utf8_lossy(&words)).unwrap_or_default();
    let lines: Vec<_> = words.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Opens a log for appending, and makes it where there is none.
pub(super) fn log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}
