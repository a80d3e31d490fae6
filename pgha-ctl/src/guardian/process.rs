//! `pgha guardian`: one thread, one connection, one timer.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::{geteuid, setsid};
use pgha_machine::Moment;

use super::means::Means;
use super::priority;
use super::said::{Answer, Charge, MAX_LINE, Numbered, Order, line};
use super::watch::{Refusal, Watch};
use crate::clock;
use crate::net::caps::{self, Capability, CapsError};

/// How long one that was just started waits for its agent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that has nothing to guard any more may take to end, and how often that is looked at.
const FAREWELL: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// What it takes to take addresses off, and to keep later memory locked, too. Its priority stays without a right.
const RIGHTS: [Capability; 2] = [Capability::NetAdmin, Capability::IpcLock];

/// How a guardian is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens. The directory must be there.
    pub socket: PathBuf,
    /// Go on where locked memory or real-time priority is refused.
    pub may_be_ordinary: bool,
}

/// A guardian could not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum ProcessError {
    #[error(
        "the guardian's memory cannot be locked: {0}; give it CAP_IPC_LOCK, or allow an ordinary process \
         with --may-be-ordinary: it may then be late by as long as reading its memory back takes"
    )]
    Memory(io::Error),
    #[error(
        "the guardian cannot run with real-time priority: {0}; give it CAP_SYS_NICE, or allow an ordinary \
         process with --may-be-ordinary: it may then be late by as long as others keep the processors"
    )]
    Priority(io::Error),
    #[error(transparent)]
    Rights(#[from] CapsError),
    #[error("another guardian has {0}; stop its agent first")]
    Running(PathBuf),
    #[error("the guardian cannot listen at {path}: {source}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("the guardian cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl ProcessError {
    fn system(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { what, source: errno.into() }
    }
}

/// Guards what it is told to, until it guards nothing and its agent is gone.
///
/// # Errors
/// It cannot start; or, never in practice, the kernel refuses to wait.
pub fn run(settings: &Settings) -> Result<(), ProcessError> {
    // Whoever ends its agent by a terminal or a process group does not mean it.
    let _ = setsid();
    let ignored = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    ignored.thread_block().map_err(ProcessError::system("block signals"))?;
    let ordinary = |refused: Result<(), ProcessError>| match refused {
        Err(error) if settings.may_be_ordinary => {
            say(&error.to_string());
            Ok(())
        }
        result => result,
    };
    let (listener, _lock) = listen(&settings.socket)?;
    ordinary(priority::lock_memory().map_err(ProcessError::Memory))?;
    ordinary(priority::run_first().map_err(ProcessError::Priority))?;
    caps::keep(&RIGHTS)?;
    Guardian::new(listener)?.run()
}

/// Removes what a guardian before this one left, and listens. The lock is held by one guardian at a time.
fn listen(socket: &Path) -> Result<(UnixListener, Flock<File>), ProcessError> {
    let failed = |source| ProcessError::Socket { path: socket.to_owned(), source };
    let lock = socket.with_added_extension("lock");
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(lock);
    let mut file = opened.map_err(failed)?;
    let end = clock::now() + FAREWELL;
    let lock = loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err((file, Errno::EWOULDBLOCK)) if clock::now() < end => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(ProcessError::Running(socket.to_owned())),
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        thread::sleep(LOOK);
    };
    match fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, lock))
}

struct Guardian {
    listener: UnixListener,
    timer: TimerFd,
    agent: Option<Agent>,
    watch: Watch,
    means: Option<Means>,
    /// When it ends unless somebody came.
    lonely: Option<Moment>,
}

/// The connection of an agent, and the part of a line that has come so far.
struct Agent {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Guardian {
    fn new(listener: UnixListener) -> Result<Self, ProcessError> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self {
            listener,
            timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)
                .map_err(ProcessError::system("make a timer"))?,
            agent: None,
            watch: Watch::default(),
            means: None,
            lonely: Some(clock::now() + PATIENCE),
        })
    }

    fn run(mut self) -> Result<(), ProcessError> {
        loop {
            self.surrender_if_due();
            let lonely = self.agent.is_none() && self.watch.is_idle();
            if lonely && self.lonely.is_none_or(|end| end <= clock::now()) {
                return Ok(());
            }
            self.wait()?;
            self.hear();
            self.accept();
        }
    }

    fn surrender_if_due(&mut self) {
        if self.watch.over(clock::now()).is_none() {
            return;
        }
        let Some(mut means) = self.means.take() else { return };
        means.surrender();
        let report = means.report(clock::now());
        let answer = line(&Answer::Surrendered(report));
        self.tell(&answer);
        say(String::from_utf8_lossy(&answer).trim_end());
    }

    /// Sleeps until the moment, or until somebody says something.
    fn wait(&mut self) -> Result<(), ProcessError> {
        match self.watch.due().or(self.lonely) {
            Some(moment) => {
                let at = Duration::from_nanos(clock::nanoseconds(moment));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
                self.timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
            None => self.timer.unset(),
        }
        .map_err(ProcessError::system("set its timer"))?;
        let mut ready = [
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::empty()),
        ];
        if let Some(agent) = &self.agent {
            ready[2] = PollFd::new(agent.stream.as_fd(), PollFlags::POLLIN);
        }
        match poll(&mut ready, PollTimeout::NONE) {
            Err(errno) if errno != Errno::EINTR => Err(ProcessError::system("wait")(errno)),
            _ => Ok(()),
        }
    }

    /// Takes a new connection in the place of the one before: the agent that comes last is the one that runs.
    fn accept(&mut self) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Out of descriptors, say. It will be asked for again at once, and others must run, too.
                Ok(_) | Err(_) => return thread::sleep(LOOK),
            };
            if let Err(refusal) = admit(&stream) {
                let _ = stream.write_all(&line(&Answer::Refused { number: 0, refusal }));
                continue;
            }
            self.agent = Some(Agent { stream, heard: Vec::with_capacity(MAX_LINE) });
            self.lonely = None;
        }
    }

    /// Follows every order that has come.
    fn hear(&mut self) {
        while let Some(agent) = &mut self.agent {
            match agent.next_line() {
                Ok(Some(heard)) => {
                    let answer = self.answer(&heard);
                    self.tell(&line(&answer));
                }
                Ok(None) => return,
                // What is guarded stays guarded.
                Err(_) => self.agent = None,
            }
        }
    }

    fn answer(&mut self, heard: &[u8]) -> Answer {
        // First: an order that comes after the moment does not undo it.
        self.surrender_if_due();
        let (number, followed) = match Numbered::read(heard) {
            Ok(Numbered { number, order }) => (number, self.follow(order)),
            Err(refusal) => (0, Err(refusal)),
        };
        match followed {
            Ok(()) => Answer::Done { number },
            Err(refusal) => Answer::Refused { number, refusal },
        }
    }

    fn follow(&mut self, order: Order) -> Result<(), Refusal> {
        match order {
            Order::Look => Ok(()),
            Order::Guard(charge) => self.guard(&charge),
            Order::Renew { start, until } => self.watch.renew(start, until),
            Order::StandDown { start } => {
                self.watch.stand_down(start)?;
                self.means = None;
                Ok(())
            }
        }
    }

    fn guard(&mut self, charge: &Charge) -> Result<(), Refusal> {
        self.watch.admits(charge.start)?;
        let means = Means::prepare(charge).map_err(|why| Refusal::Unable { why })?;
        self.watch.guard(charge.start, charge.until)?;
        self.means = Some(means);
        Ok(())
    }

    /// An agent that does not read learns nothing; nobody waits for it.
    fn tell(&mut self, answer: &[u8]) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.stream.write_all(answer);
        }
    }
}

impl Agent {
    /// The next line; `None` while it has not come as a whole.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.heard, rest)));
            }
            if self.heard.len() > MAX_LINE {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.heard.extend(&part[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Refuses whoever is neither root nor the user this process runs as.
fn admit(stream: &UnixStream) -> Result<(), Refusal> {
    let peer = getsockopt(stream, sockopt::PeerCredentials);
    let user = peer.map_or(u32::MAX, |peer| peer.uid());
    if user == 0 || user == geteuid().as_raw() { Ok(()) } else { Err(Refusal::Stranger { user }) }
}

/// Writes to the agent's log, if that is still there.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "guardian: {what}");
}
