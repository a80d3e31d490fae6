//! Clients of real servers that ended are told, also those that only wait.
//!
//! The data plane answers whatever such a client sends; one that sends nothing is sent a RST. One that has
//! acknowledged more than this director saw does not take it, so that the later rounds ask as well: the
//! client's answer comes to the data plane, which answers with the exact RST. Each round reads the flows
//! anew. Whoever has flows tells their clients, whatever its role: a director that stands by has flows
//! of when it was active, and of clients that still send through it; a RST changes nothing for a client
//! that another director told already.
//!
//! One task, beside the controller's loop, which it never holds up. Ending it at any point loses nothing
//! but rounds. With its controller it ends at once: a successor may serve the same servers again, and
//! their flows are then none of those that ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pgha_common::flow::RealRef;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};

use super::until;
use crate::bpf::xdp::{AnyFlow, FlowReader, XdpError};
use crate::net::raw::{RawError, RawSender};

/// When clients are told, counted from the end of their server: a RST can be lost.
const ROUNDS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(1)];
/// How long to wait for room in a queue that is full.
const PAUSE: Duration = Duration::from_millis(1);
/// How long after its begin a round still waits for room; the next round tries again.
const PATIENCE: Duration = Duration::from_secs(5);

/// A user of an id: id and generation.
pub(super) type Id = (u16, u16);

/// Real servers whose clients are being told.
#[derive(Debug, Default)]
struct Rounds(BTreeMap<Id, (Instant, usize)>);

impl Rounds {
    /// Servers that ended now.
    fn begin(&mut self, now: Instant, ended: impl IntoIterator<Item = Id>) {
        self.0.extend(ended.into_iter().map(|id| (id, (now, 0))));
    }

    /// A server is there again: its flows are none of those that ended.
    fn spare(&mut self, alive: &BTreeSet<Id>) {
        self.0.retain(|id, _| !alive.contains(id));
    }

    /// The servers whose next round is due, with its number; they wait for the one after it then.
    fn take_due(&mut self, now: Instant) -> BTreeMap<Id, usize> {
        let mut due = BTreeMap::new();
        for (id, (since, round)) in &mut self.0 {
            if ROUNDS.get(*round).is_some_and(|wait| *since + *wait <= now) {
                due.insert(*id, *round);
                *round += 1;
            }
        }
        due
    }

    /// When a round is due; forgets those that had all of theirs.
    fn next(&mut self) -> Option<Instant> {
        self.0.retain(|_, (_, round)| *round < ROUNDS.len());
        self.0.values().filter_map(|(since, round)| Some(*since + *ROUNDS.get(*round)?)).min()
    }

    fn contains(&self, id: Id) -> bool {
        self.0.contains_key(&id)
    }

    /// From now on nobody is told.
    fn end(&mut self) {
        self.0.clear();
    }
}

#[derive(Debug, Default)]
struct Shared {
    rounds: Mutex<Rounds>,
    begun: Notify,
}

impl Shared {
    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that tells, which ends with the value.
#[derive(Debug)]
pub(super) struct Ended {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Ended {
    pub(super) fn new(reader: FlowReader, sender: RawSender) -> Self {
        let shared = Arc::<Shared>::default();
        let teller = Teller { shared: Arc::clone(&shared), reader, sender };
        Self { shared, task: tokio::spawn(tell(Arc::new(teller))) }
    }

    /// Says which servers are to be served. To be called before the data plane knows it: from then on
    /// their ids may have new flows.
    pub(super) fn spare(&self, alive: &BTreeSet<Id>) {
        self.shared.rounds().spare(alive);
    }

    /// Begins to tell the clients of these servers.
    pub(super) fn begin(&self, ended: BTreeSet<Id>) {
        if !ended.is_empty() {
            self.shared.rounds().begin(Instant::now(), ended);
            self.shared.begun.notify_one();
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // A round that runs is on a thread of its own, which aborting the task does not reach.
        self.shared.rounds().end();
        self.task.abort();
    }
}

async fn tell(teller: Arc<Teller>) {
    loop {
        let due = teller.shared.rounds().take_due(Instant::now());
        if due.is_empty() {
            let next = teller.shared.rounds().next();
            tokio::select! {
                () = teller.shared.begun.notified() => {}
                () = until(next) => {}
            }
            continue;
        }
        let teller = Arc::clone(&teller);
        // It fails only when the controller ends.
        let _ = spawn_blocking(move || teller.round(&due)).await;
    }
}

#[derive(Debug)]
struct Teller {
    shared: Arc<Shared>,
    reader: FlowReader,
    sender: RawSender,
}

/// How a round went.
#[derive(Debug, Default)]
struct Told {
    /// Clients that the first round of their server told.
    first: usize,
    /// Clients told again.
    again: usize,
    /// Clients that could not be told.
    failed: usize,
    /// Why, for one of them.
    error: Option<RawError>,
}

/// Whether a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It was, could not be, or need not be.
    Settled,
    /// There was no room for the packet.
    NoRoom,
}

impl Teller {
    /// Shows each flow to the network once without waiting, then comes back to those that met a full
    /// queue.
    fn round(&self, due: &BTreeMap<Id, usize>) {
        let began = Instant::now();
        let mut told = Told::default();
        let mut later = VecDeque::new();
        let walked = if self.is_wanted(due) {
            self.reader.walk(|flow| {
                if self.tell(due, &flow, &mut told) == Outcome::NoRoom {
                    later.push_back(flow);
                }
            })
        } else {
            Ok(())
        };
        let left = come_back(later, began + PATIENCE, |flow| self.tell(due, flow, &mut told));
        if let Some(flow) = left.front() {
            told.failed += left.len();
            told.error.get_or_insert(RawError::Busy { destination: flow.client().ip() });
        }
        report(&told, began.elapsed(), walked);
    }

    /// Whether any of the servers is still to be told of.
    fn is_wanted(&self, due: &BTreeMap<Id, usize>) -> bool {
        let rounds = self.shared.rounds();
        due.keys().any(|id| rounds.contains(*id))
    }

    fn tell(&self, due: &BTreeMap<Id, usize>, flow: &AnyFlow, told: &mut Told) -> Outcome {
        let RealRef { id, generation } = flow.flow.real();
        let Some(round) = due.get(&(id, generation)) else { return Outcome::Settled };
        // A server that is there again may have new flows; this one was read after it was spared, or
        // is one of those that ended.
        if flow.flow.is_closing() || !self.shared.rounds().contains((id, generation)) {
            return Outcome::Settled;
        }
        let mut sent = self.send(flow.reset());
        if let Some(probe) = flow.probe().filter(|_| *round > 0) {
            sent = sent.and_then(|()| self.send(probe));
        }
        match sent {
            Ok(()) if *round == 0 => told.first += 1,
            Ok(()) => told.again += 1,
            Err(RawError::Busy { .. }) => return Outcome::NoRoom,
            Err(error) => {
                told.failed += 1;
                told.error.get_or_insert(error);
            }
        }
        Outcome::Settled
    }

    fn send(&self, (packet, destination): (Vec<u8>, IpAddr)) -> Result<(), RawError> {
        self.sender.send(&packet, destination)
    }
}

/// Tries those that found no room again, in turn, with a pause after each that finds none again. Returns
/// those for which there was none until `end`.
fn come_back<T>(
    mut later: VecDeque<T>,
    end: Instant,
    mut tell: impl FnMut(&T) -> Outcome,
) -> VecDeque<T> {
    while Instant::now() < end
        && let Some(next) = later.pop_front()
    {
        if tell(&next) == Outcome::NoRoom {
            later.push_back(next);
            std::thread::sleep(PAUSE);
        }
    }
    later
}

fn report(told: &Told, took: Duration, walked: Result<(), XdpError>) {
    let Told { first, again, failed, error } = told;
    if *first > 0 {
        tracing::info!("told {first} clients that their server is gone, in {took:.1?}");
    }
    if *again > 0 {
        tracing::debug!("told {again} clients again that their server is gone, in {took:.1?}");
    }
    if let Some(error) = error {
        tracing::warn!("{failed} clients could not be told that their server is gone: {error}");
    }
    if let Err(error) = walked {
        tracing::warn!(
            "the clients of a server that is gone could not all be told, who waits without \
             keep-alives waits on: {error}"
        );
    }
}

#[cfg(test)]
mod tests;
