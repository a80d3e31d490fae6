//! Probes through the VIPs: does a client that is sent to one server find PostgreSQL there?
//!
//! A SYN from an address of this director to VIP and port goes to that one server's MAC address, past every
//! table. A SYN-ACK shows that the VIP is on its loopback and that somebody listens there; a RST, that
//! nobody does; and silence from a host that answers otherwise, that it does not have the VIP. A probe
//! that is only to see that sends a RST then: the connection was half open, and PostgreSQL never
//! hears of it. One with a question goes on to PostgreSQL's first answer ([`startup`]).
//!
//! One task has all paths, one port and two packet sockets, whatever their number. The kernel takes no part: it
//! does not know that the port talks to anybody, and would neither send to a MAC address of our choice nor take
//! an answer from a VIP that it has itself.

mod exchange;
mod own;
mod rounds;
mod segment;
mod socket;
pub mod startup;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use pgha_machine::Mac;
use pgha_machine::balancer::{Path, ProbeFinding, Via};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::error::NetError;
use own::Own;
pub use rounds::Pace;
use rounds::{Letter, Outcome, Rounds, Step};
use segment::Heard;
use socket::Sockets;

/// For how long what the kernel said of this node's interfaces and addresses is gone by.
const FRESH: Duration = Duration::from_secs(1);
/// How long after the kernel refused to be read it is read again.
const PAUSE: Duration = Duration::from_secs(1);

/// What probes go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names of the director's interfaces, in the order of their numbers.
    pub interfaces: Vec<String>,
    /// How often.
    pub pace: Pace,
    /// What is asked behind a VIP and port; nothing, where a SYN is enough.
    pub questions: BTreeMap<(IpAddr, u16), Vec<u8>>,
    /// All VIPs: no probe comes from one.
    pub vips: BTreeSet<IpAddr>,
}

/// A probe that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Whose.
    pub path: Path,
    /// How.
    pub finding: ProbeFinding,
    /// What somebody on the way said of it (ICMP), or what shows it without a probe.
    pub because: Option<String>,
}

/// The task that probes, which ends with the value.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    rounds: Rounds,
    settings: Arc<Settings>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prober {
    /// Begins with no path. What is found goes to `tell`; whoever does not take it holds up the probes, and
    /// nothing else. Sockets are opened for the first probe, and closed with the last path.
    pub fn new(settings: Settings, tell: mpsc::Sender<Probed>) -> Self {
        let state = State { rounds: Rounds::new(settings.pace), settings: Arc::new(settings) };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() });
        let task = Task { shared: Arc::clone(&shared), tell, sockets: None, own: None };
        Self { shared, task: tokio::spawn(task.run()) }
    }

    /// Goes by these from the next probe of each path on.
    pub fn configure(&self, settings: Settings) {
        let mut state = self.shared.state();
        state.rounds.set_pace(settings.pace);
        state.settings = Arc::new(settings);
    }

    /// Probes a path from now on, this way; at first at once.
    pub fn probe(&self, path: Path, via: Via) {
        self.shared.state().rounds.add(Instant::now(), path, via);
        self.shared.changed.notify_one();
    }

    /// Probes it no more.
    pub fn unprobe(&self, path: &Path) {
        self.shared.state().rounds.remove(path);
        self.shared.changed.notify_one();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A segment could not be sent.
#[derive(Debug)]
struct Unsent {
    /// In a sentence.
    why: String,
    /// There was no room for it, which passes.
    full: bool,
}

struct Task {
    shared: Arc<Shared>,
    tell: mpsc::Sender<Probed>,
    sockets: Option<Sockets>,
    own: Option<(Instant, Own)>,
}

impl Task {
    async fn run(mut self) {
        let mut heard = false;
        loop {
            let now = Instant::now();
            let next = self.shared.state().rounds.next();
            let due = next.is_some_and(|due| due <= now);
            if due || std::mem::take(&mut heard) {
                // What was heard before now was in time, however long this task was held up.
                let (ended, deaf) = match self.catch_up() {
                    Ok(ended) => (ended, false),
                    Err(error) => (self.deaf(&error), true),
                };
                for probed in ended {
                    if self.tell.send(probed).await.is_err() {
                        return;
                    }
                }
                if deaf {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if due {
                while let Some(probed) = self.step(now) {
                    if self.tell.send(probed).await.is_err() {
                        return;
                    }
                }
            }
            let next = self.shared.state().rounds.next();
            if next.is_none() {
                // Nobody is probed any more.
                self.sockets = None;
            }
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = until(next) => {}
                () = readable(self.sockets.as_ref()) => heard = true,
            }
        }
    }

    /// Takes in all that waits to be heard.
    fn catch_up(&self) -> Result<Vec<Probed>, NetError> {
        let Some(sockets) = &self.sockets else { return Ok(Vec::new()) };
        let waiting = sockets.waiting()?;
        let take_in = |(from, heard): (Option<Mac>, Heard)| {
            let outcome = self.shared.state().rounds.hear(from, &heard);
            self.carry_out(outcome)
        };
        Ok(waiting.into_iter().filter_map(take_in).collect())
    }

    /// The sockets are of no use any more; the next probe opens others.
    fn deaf(&mut self, error: &NetError) -> Vec<Probed> {
        tracing::warn!("{error}");
        self.sockets = None;
        self.shared.state().rounds.deaf(&error.to_string())
    }

    /// Does all that was due at `now`, as far as the first thing to tell.
    fn step(&mut self, now: Instant) -> Option<Probed> {
        loop {
            let step = self.shared.state().rounds.step(now)?;
            let told = match step {
                Step::Begin(path, via) => self.begin(path, via).err().map(|finding| {
                    self.shared.state().rounds.abandon(&path);
                    let because = (finding == ProbeFinding::Silent)
                        .then(|| format!("this node has no address {}", path.vip));
                    Probed { path, finding, because }
                }),
                Step::Do(outcome) => self.carry_out(outcome),
            };
            if told.is_some() {
                return told;
            }
        }
    }

    /// Begins a probe.
    ///
    /// # Errors
    /// What is known without one.
    fn begin(&mut self, path: Path, via: Via) -> Result<(), ProbeFinding> {
        let settings = Arc::clone(&self.shared.state().settings);
        let undecided = |error: NetError| ProbeFinding::Undecided(error.to_string());
        let now = Instant::now();
        if self.own.as_ref().is_none_or(|(read, _)| *read + FRESH <= now) {
            self.own = Some((now, Own::read(&settings.interfaces).map_err(undecided)?));
        }
        let address = self.asks(path, via, &settings)?;
        if self.sockets.is_none() {
            self.sockets = Some(Sockets::open().map_err(undecided)?);
        }
        let port = self.sockets.as_ref().map_or(0, Sockets::port);
        let own = SocketAddr::new(address, port);
        let question = settings.questions.get(&(path.vip, path.port)).cloned().unwrap_or_default();
        let letter = self.shared.state().rounds.begin(now, path, own, question);
        let Some(letter) = letter else { return Ok(()) };
        match self.send(&letter) {
            // There may be room when it is sent again.
            Err(Unsent { why, full: true }) => {
                self.shared.state().rounds.unsent(&letter, why);
                Ok(())
            }
            sent => sent.map_err(|unsent| ProbeFinding::Undecided(unsent.why)),
        }
    }

    /// The address that asks.
    fn asks(&self, path: Path, via: Via, settings: &Settings) -> Result<IpAddr, ProbeFinding> {
        let Some((_, own)) = &self.own else { return Err(ProbeFinding::Silent) };
        match via {
            // The kernel would send it away.
            Via::Local if !own.all.contains(&path.vip) => Err(ProbeFinding::Silent),
            Via::Local if path.address.is_ipv4() == path.vip.is_ipv4() => Ok(path.address),
            Via::Local => Ok(path.vip),
            Via::Neighbour(neighbour) => {
                let link = own.links.get(usize::from(neighbour.interface));
                let link = link.ok_or_else(|| {
                    ProbeFinding::Undecided("the server is behind no interface".to_owned())
                })?;
                link.asks(path.vip, &settings.vips).map_err(ProbeFinding::Undecided)
            }
        }
    }

    fn carry_out(&self, outcome: Outcome) -> Option<Probed> {
        if let Some(letter) = outcome.letter
            && let Err(Unsent { why, .. }) = self.send(&letter)
        {
            tracing::debug!("{why}");
            self.shared.state().rounds.unsent(&letter, why);
        }
        outcome.found
    }

    /// Sends a segment.
    ///
    /// # Errors
    /// What keeps it here.
    fn send(&self, letter: &Letter) -> Result<(), Unsent> {
        let (Some(sockets), Some((_, own))) = (&self.sockets, &self.own) else { return Ok(()) };
        match letter.via {
            Via::Local => {
                let packet = segment::packet(&letter.ends, &letter.segment);
                let sent = sockets.send_here(&packet, letter.ends.vip.ip());
                sent.map_err(|why| Unsent { why, full: false })
            }
            Via::Neighbour(neighbour) => {
                let link = own.links.get(usize::from(neighbour.interface));
                let Some((device, mac)) = link.and_then(|link| link.device.as_ref()) else {
                    let why = "the interface that the server is behind is gone".to_owned();
                    return Err(Unsent { why, full: false });
                };
                let frame = segment::frame(*mac, neighbour.mac, &letter.ends, &letter.segment);
                sockets.send(device, &frame).map_err(|error| Unsent {
                    full: is_full(&error),
                    why: format!("a probe of VIP {} cannot be sent: {error}", letter.ends.vip.ip()),
                })
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}

async fn readable(sockets: Option<&Sockets>) {
    match sockets {
        Some(sockets) => sockets.readable().await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
