//! Commands on hosts: in the foreground with a deadline, or running beside the test.
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Gid, Pid, Uid, User, setgid, setgroups, setsid, setuid, write};

use super::cgroup::Cgroup;
use super::netns::Namespace;
use super::wait::{SOON, wait_for};

/// The user PostgreSQL runs as; it refuses root.
pub const POSTGRES_USER: &str = "postgres";

/// Variables of the person at the keyboard that would lead a client elsewhere.
const FOREIGN_VARIABLES: [&str; 7] =
    ["PGHOST", "PGHOSTADDR", "PGPORT", "PGPASSWORD", "PGPASSFILE", "PGOPTIONS", "PGSERVICE"];

/// A command, to be run on a host.
///
/// Its environment is that of this process, with PostgreSQL clients set to the superuser
/// `postgres`, the database `postgres` and a connect timeout of 5 s. Its directory is `/`.
#[derive(Debug)]
pub struct Cmd {
    text: String,
    command: Command,
    namespace: Option<OwnedFd>,
    cgroup: Option<OwnedFd>,
    user: Option<(Uid, Gid)>,
    stdin: Option<Vec<u8>>,
    deadline: Duration,
}

impl Cmd {
    /// A program and its arguments, on the machine itself until told otherwise.
    ///
    /// # Panics
    /// Without a program.
    pub fn new<S: AsRef<OsStr>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv: Vec<OsString> = argv.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let (program, arguments) = argv.split_first().expect("a command names its program");
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").stdin(Stdio::null());
        client_environment(&mut command);
        let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
        Self {
            text: words.join(" "),
            command,
            namespace: None,
            cgroup: None,
            user: None,
            stdin: None,
            deadline: SOON,
        }
    }

    /// Runs it inside a network namespace.
    ///
    /// # Errors
    /// When this process is out of file descriptors.
    pub fn in_namespace(mut self, namespace: &Namespace) -> Result<Self> {
        use std::os::fd::AsFd as _;
        self.namespace = Some(namespace.as_fd().try_clone_to_owned()?);
        self.text = format!("{} ({})", self.text, namespace.name());
        Ok(self)
    }

    /// Runs it in a cgroup.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn in_cgroup(mut self, cgroup: &Cgroup) -> Result<Self> {
        self.cgroup = Some(cgroup.entrance()?);
        Ok(self)
    }

    /// Runs it as the user `postgres`.
    ///
    /// # Errors
    /// When the machine has no such user.
    pub fn as_postgres(mut self) -> Result<Self> {
        let user = postgres_user()?;
        self.user = Some((user.uid, user.gid));
        Ok(self)
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            self.text = format!("{} {}", self.text, argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it a text to read; without one it reads nothing. For foreground commands.
    #[must_use]
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.as_bytes().to_owned());
        self
    }

    /// How long a foreground command may take: 30 s unless set.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end, however that is. It is killed past its deadline, and with this thread.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn output(mut self) -> Result<Output> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.stdin.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self.spawn(true)?;
        let group = pid_of(&child);
        let input = self.stdin.take();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
                // A command that ends without reading its input says why by itself.
                let _ = pipe.write_all(&text);
            }
            // The receiver has gone only if the deadline has passed.
            let _ = sender.send(child.wait_with_output());
        });
        match receiver.recv_timeout(self.deadline) {
            Ok(output) => output.with_context(|| format!("`{}`", self.text)),
            Err(_) => {
                // Gone already is what is wanted.
                let _ = killpg(group, Signal::SIGKILL);
                bail!("`{}` did not end within {:?}", self.text, self.deadline)
            }
        }
    }

    /// Runs it to a successful end and returns what it printed, without the last newline.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time or fails; with its standard error.
    pub fn run(self) -> Result<String> {
        let text = self.text.clone();
        let output = self.output()?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let stdout = String::from_utf8_lossy(&output.stdout);
            let said = if stderr.trim().is_empty() { stdout } else { stderr };
            bail!("`{text}`: {}: {}", output.status, said.trim());
        }
        let mut stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        stdout.truncate(stdout.trim_end_matches('\n').len());
        Ok(stdout)
    }

    /// Starts it beside the test, in a session of its own, writing to the end of a log file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self, log: &Path) -> Result<Running> {
        Ok(Running(self.daemon(log)?))
    }

    /// As [`Cmd::start`], but nothing ends it when the handle is dropped.
    pub(super) fn daemon(mut self, log: &Path) -> Result<Daemon> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("log {}", log.display()))?;
        self.command.stdout(file.try_clone()?).stderr(file);
        let child = self.spawn(false)?;
        Ok(Daemon {
            pid: pid_of(&child),
            child: Arc::new(Mutex::new(child)),
            text: self.text.into(),
            log: log.into(),
        })
    }

    /// Foreground commands die with the thread that started them, and it waits for them. Others
    /// must not: a thread may end long before its daemons should.
    fn spawn(&mut self, foreground: bool) -> Result<Child> {
        let namespace = self.namespace.take();
        let cgroup = self.cgroup.take();
        let user = self.user;
        let enter = move || -> io::Result<()> {
            setsid()?;
            if let Some(cgroup) = &cgroup {
                // The process that writes.
                write(cgroup, b"0")?;
            }
            if let Some(namespace) = &namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                // A server that is killed leaves its System V shared memory behind, of which a machine has 4,096;
                // this one goes with the last process that is in it.
                unshare(CloneFlags::CLONE_NEWIPC)?;
            }
            if let Some((uid, gid)) = user {
                setgroups(&[gid])?;
                setgid(gid)?;
                setuid(uid)?;
            }
            if foreground {
                // After setuid, which clears it.
                set_pdeathsig(Signal::SIGKILL)?;
            }
            Ok(())
        };
        // SAFETY: the closure runs in the forked child and makes only system calls; it allocates
        // nothing, takes no lock, and the descriptor it uses was opened before the fork.
        unsafe { self.command.pre_exec(enter) };
        self.command.spawn().with_context(|| format!("start `{}`", self.text))
    }
}

/// What PostgreSQL clients find in their environment on every host.
pub fn client_environment(command: &mut Command) {
    for variable in FOREIGN_VARIABLES {
        command.env_remove(variable);
    }
    command
        .env("PGUSER", POSTGRES_USER)
        .env("PGDATABASE", "postgres")
        .env("PGCONNECT_TIMEOUT", "5")
        .env("LC_ALL", "C");
}

pub(super) fn postgres_user() -> Result<User> {
    User::from_name(POSTGRES_USER)?
        .context("no user `postgres`: install PostgreSQL's server package")
}

/// A process started by the lab that outlives its handle; the lab ends it.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    pid: Pid,
    child: Arc<Mutex<Child>>,
    text: Arc<str>,
    log: Arc<Path>,
}

impl Daemon {
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child().try_wait()?)
    }

    /// Signals the process unless it has ended: a reaped id may be someone else's.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        match child.try_wait()? {
            Some(_) => Ok(()),
            None => kill(self.pid, signal).with_context(|| format!("{signal} to `{}`", self.text)),
        }
    }

    fn kill_group(&self) -> Result<()> {
        let mut child = self.child();
        match child.try_wait()? {
            Some(_) => Ok(()),
            None => {
                killpg(self.pid, Signal::SIGKILL).with_context(|| format!("kill `{}`", self.text))
            }
        }
    }

    pub(super) fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        wait_for(format_args!("the end of `{}`", self.text), deadline, || self.ended())
    }

    pub(super) fn log(&self) -> String {
        read_log(&self.log)
    }

    /// How it ended and the last lines of its log, as one error.
    pub(super) fn obituary(&self, status: ExitStatus) -> anyhow::Error {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        let end = match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => status.to_string(),
        };
        anyhow!("`{}` ended by {end}; the end of {}:\n{tail}", self.text, self.log.display())
    }
}

/// A process beside the test. Dropping it kills it, with its process group.
#[derive(Debug)]
pub struct Running(Daemon);

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.0.pid()
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// When the kernel does not know the child; never in practice.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.0.ended()?.is_none())
    }

    /// Sends it a signal, unless it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.0.signal(signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended by the deadline.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        self.0.wait(deadline)
    }

    /// Kills it and its process group, and waits.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.0.kill_group()?;
        self.0.wait(SOON)
    }

    /// What it and earlier processes of the same log have written so far.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// Where it writes.
    pub fn log_path(&self) -> PathBuf {
        self.0.log.to_path_buf()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("lab: {error:#}");
        }
    }
}

fn read_log(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
