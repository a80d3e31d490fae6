//! PostgreSQL behind its gate: the machine's commands, carried out in the order that keeps the lease.
//!
//! | command | before PostgreSQL | then |
//! |---|---|---|
//! | start, rewind, exchange | a gate on the new cgroup, open | |
//! | promote | the gate is armed, the guardian has confirmed, the reader VIPs are off | out of recovery |
//! | restart | the reader VIPs are off; a gate, armed before there is a process behind it | the guardian has confirmed |
//! | kill | the gate is closed, by the loop itself | the VIP comes off beside `cgroup.kill` |

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgha_machine::failover::agent::{Command, Event, Kept, Outcome, Role};
use pgha_machine::failover::timing::Timings;
use pgha_machine::failover::voters::VoterSet;
use pgha_machine::{Epoch, Moment, Timeline};
use tokio::sync::mpsc;

use super::address::{Address, NotReleased};
use super::clients::Door;
use super::error::WorkError;
use super::failures::{FailureKind, Failures};
use super::faults::Faults;
use super::guard::Guard;
use super::kept::Drawer;
use super::orders::Hands;
use super::readers::Readers;
use super::sight::Told;
use super::status::{AddressStatus, AgentStatus};
use crate::bpf::PinDirectory;
use crate::bpf::gate::{self, Gate, GateError, Spare, State};
use crate::clock::{self, unix_ms};
use crate::guardian::Charge;
use crate::postgres::server::facts::Facts;
use crate::postgres::server::{Objection, Server, Starting};

/// How long a server that runs may take to say what it is, before the agent begins without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lease as it was given last.
#[derive(Clone, Copy, Debug)]
struct Armed {
    /// The gate is open until then.
    until: Moment,
    /// The guardian ends PostgreSQL then.
    surrender: Moment,
}

/// The gate of the start that runs, and the lease.
#[derive(Default)]
struct Hold {
    armed: Option<Armed>,
    gate: Option<Gate>,
    /// The gate goes by the lease: PostgreSQL is the primary, or about to be.
    leased: bool,
}

/// What the hooks of a start need.
pub(super) struct Doors {
    pins: PinDirectory,
    /// The gate of the next start.
    spare: Arc<Mutex<Option<Spare>>>,
    hold: Mutex<Hold>,
    guard: Guard,
    address: Address,
    tell: mpsc::Sender<Told>,
}

impl Doors {
    pub(super) fn new(
        pins: PinDirectory,
        guard: Guard,
        address: Address,
        tell: mpsc::Sender<Told>,
    ) -> Self {
        let hold = Mutex::new(Hold { armed: None, gate: None, leased: false });
        Self { pins, spare: Arc::default(), hold, guard, address, tell }
    }

    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spare(&self) -> MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a gate at hand for the next start, by and by.
    fn make_spare(&self) {
        let place = Arc::clone(&self.spare);
        tokio::task::spawn_blocking(move || match Spare::load() {
            Ok(spare) => *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare),
            // The next start says what is wrong.
            Err(error) => tracing::debug!("no gate is made ahead: {error}"),
        });
    }

    /// Puts a gate on a cgroup that PostgreSQL is to begin in.
    pub(super) fn before_start(&self, starting: &Starting<'_>) -> Result<(), Objection> {
        for gone in gate::remove_ended(&self.pins)? {
            tracing::debug!("the gate of start {gone} is removed: nothing of it is left");
        }
        let spare = self.spare().take();
        let spare = spare.map_or_else(Spare::load, Ok)?;
        let gate = spare.attach(&self.pins, starting.number, starting.cgroup)?;
        self.make_spare();
        let mut hold = self.hold();
        hold.leased = false;
        hold.gate = Some(gate);
        if starting.as_primary {
            let charge = self.license(&mut hold, starting.cgroup)?;
            self.guard.charge(charge);
        }
        Ok(())
    }

    /// Has the gate go by the lease from now on, and says what the guardian is to do.
    fn license(&self, hold: &mut Hold, cgroup: &Path) -> Result<Charge, WorkError> {
        let Hold { armed: Some(armed), gate: Some(gate), .. } = hold else {
            return Err(WorkError::NoLease);
        };
        match gate.arm(armed.until)? {
            State::ArmedUntil(_) => {}
            State::Standby | State::Closed => return Err(WorkError::Expired),
        }
        let (start, until) = (gate.start(), armed.surrender);
        hold.leased = true;
        self.address.license(until);
        self.address.expect();
        Ok(Charge { start, cgroup: cgroup.to_owned(), vips: self.address.guarded(), until })
    }

    /// The lease lasts until then.
    fn arm(&self, armed: Armed) {
        let mut hold = self.hold();
        hold.armed = Some(armed);
        let Some(gate) = hold.gate.as_ref().filter(|_| hold.leased) else { return };
        match gate.arm(armed.until) {
            Ok(State::ArmedUntil(_)) => {
                self.guard.renew(armed.surrender);
                self.address.license(armed.surrender);
            }
            Ok(State::Standby | State::Closed) => {
                tracing::warn!("the gate of start {} is closed: its moment had come", gate.start());
                let event = Event::GateClosed;
                // Where the loop has no room for it, it is seen again soon.
                let _ = self.tell.try_send(Told::Seen { start: gate.start(), event });
            }
            // The moment before still holds.
            Err(error) => tracing::error!("the gate could not be armed: {error}"),
        }
    }

    /// Closes the gate of the start that runs, for good.
    fn shut(&self) {
        let mut hold = self.hold();
        self.address.forbid();
        hold.leased = false;
        if let Some(gate) = &hold.gate
            && let Err(error) = gate.close()
        {
            tracing::error!("the gate could not be closed, it closes with the lease: {error}");
        }
    }

    /// Whether the gate of the start that runs is closed.
    fn is_shut(&self) -> bool {
        self.hold().gate.as_ref().is_some_and(|gate| matches!(gate.state(), Ok(State::Closed)))
    }
}

/// PostgreSQL on this node, and all that is around it.
pub(super) struct Works {
    pub(super) server: Server,
    pub(super) doors: Arc<Doors>,
    pub(super) readers: Readers,
    pub(super) faults: Faults,
    pub(super) door: Door,
    pub(super) drawer: Drawer,
    /// What does not change in the status.
    pub(super) about: AgentStatus,
    /// How long a write to the disk may take.
    pub(super) write_timeout: Duration,
    /// How PostgreSQL was last by its own word, in which start and when.
    pub(super) facts: Mutex<Option<(u64, u64, Facts)>>,
    pub(super) failures: Failures,
}

impl Works {
    /// The lease lasts until `until`, by the timings of the record; the guardian is sooner.
    pub(super) fn arm(&self, until: Moment, lease: Option<Timings>) {
        self.doors.arm(Armed { until, surrender: until - rest(lease) });
    }

    /// Nothing passes from here on.
    pub(super) fn shut(&self) {
        self.doors.shut();
    }

    /// Whether the gate of the start that runs is closed.
    pub(super) fn is_shut(&self) -> bool {
        self.doors.is_shut()
    }

    /// The writer VIP is here.
    pub(super) fn claim(&self, epoch: Epoch) {
        self.doors.address.claim(epoch);
    }

    /// The reader VIPs are as they are with that role.
    pub(super) fn readers(&self, role: &Role) {
        self.readers.role(role);
    }

    /// The writer VIP is not here, whatever a former agent left.
    ///
    /// # Errors
    /// The kernel does not take it off in time.
    pub(super) async fn release(&self) -> Result<(), NotReleased> {
        self.doors.address.release().await
    }

    /// PostgreSQL of that start has said how it is, or does not answer.
    pub(super) fn know(&self, start: u64, facts: Option<Facts>) {
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        *known = facts.map(|facts| (start, unix_ms(), facts));
    }

    /// What is known of PostgreSQL here besides what the machine knows.
    pub(super) fn status(&self) -> AgentStatus {
        let start = self.server.runs().map(|(start, _)| start);
        let known = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What another start said is none of this one.
        let facts = known.filter(|(of, _, _)| Some(*of) == start);
        AgentStatus {
            facts: facts.map(|(_, at, facts)| (at, facts)),
            failures: self.failures.list(),
            start,
            writer_vip: self.doors.address.claimed(),
            addresses: AddressStatus {
                rivals: self.doors.address.rivals(),
                readers: self.readers.here(),
                troubles: self
                    .doors
                    .address
                    .trouble()
                    .into_iter()
                    .chain(self.readers.trouble())
                    .collect(),
            },
            faults: self.faults.reasons(),
            ..self.about.clone()
        }
    }

    /// Takes over the gate of a server that runs. `None`: it is open and was never armed.
    ///
    /// # Errors
    /// It has no gate, or the kernel does not answer.
    pub(super) fn adopt(
        &self,
        start: u64,
        cgroup: &Path,
        lease: Option<Timings>,
    ) -> Result<State, WorkError> {
        let gate = Gate::open(&self.doors.pins, start, cgroup)?;
        self.is_held_by(&gate, cgroup)?;
        let state = gate.state()?;
        let mut hold = self.doors.hold();
        if let State::ArmedUntil(until) = state {
            let surrender = until - rest(lease);
            hold.armed = Some(Armed { until, surrender });
            hold.leased = true;
            self.doors.address.license(surrender);
            let vips = self.doors.address.guarded();
            self.doors.guard.charge(Charge {
                start,
                cgroup: cgroup.to_owned(),
                vips,
                until: surrender,
            });
        }
        hold.gate = Some(gate);
        Ok(state)
    }

    /// Whether whoever connects to the server that runs meets its gate.
    fn is_held_by(&self, gate: &Gate, cgroup: &Path) -> Result<(), WorkError> {
        let pid = self.server.postmaster().ok_or(WorkError::Down)?;
        // Whose descriptors these are may look at them.
        let outside = self.server.user().with_files(|| gate::outside(pid, cgroup));
        let outside = outside.map_err(|source| GateError::Sockets { pid, source })??;
        let addresses: Vec<_> = outside.iter().map(|one| one.address.to_string()).collect();
        if addresses.is_empty() {
            return Ok(());
        }
        Err(WorkError::Outside { start: gate.start(), addresses: addresses.join(", ") })
    }

    /// Until when it makes sense to ask a server that runs what it is: as the primary it is ended by then.
    pub(super) fn patience(doors: &Doors, start: u64, cgroup: &Path, kept: &Kept) -> Duration {
        let state = Gate::open(&doors.pins, start, cgroup).and_then(|gate| gate.state());
        match state {
            Ok(State::ArmedUntil(until)) => {
                (until - rest(kept.lease)).since(clock::now()).min(PATIENCE)
            }
            Ok(State::Standby | State::Closed) | Err(_) => PATIENCE,
        }
    }

    /// No start but the one that runs has anything to say any more.
    pub(super) fn close_others(&self) {
        let runs = self.server.runs().map(|(start, _)| start);
        match gate::close_others(&self.doors.pins, runs) {
            Ok(closed) => {
                for start in closed {
                    tracing::info!("the gate of start {start}, which is over, is closed");
                }
            }
            Err(error) => tracing::error!("the gate of a start that is over may be open: {error}"),
        }
    }

    /// Nothing is to be guarded but what was said to be.
    pub(super) fn nothing_to_guard(&self) {
        self.doors.guard.stand_down();
    }

    async fn promote(&self, timeline: Timeline, voters: &VoterSet) -> Result<Outcome, WorkError> {
        let (start, cgroup) = self.server.runs().ok_or(WorkError::Down)?;
        let charge = self.doors.license(&mut self.doors.hold(), &cgroup)?;
        self.doors.guard.charge(charge);
        let (guarded, ()) = tokio::join!(self.doors.guard.guarded(start), self.readers.leave());
        guarded?;
        Ok(Outcome::Promoted(self.server.promote(timeline, voters).await?))
    }

    async fn restart(&self, voters: &VoterSet) -> Result<Outcome, WorkError> {
        self.readers.leave().await;
        let flushed = self.server.restart(voters).await.inspect_err(|_| {
            // Nothing of it runs.
            self.doors.guard.stand_down();
        })?;
        let (start, _) = self.server.runs().ok_or(WorkError::Down)?;
        self.doors.guard.guarded(start).await?;
        Ok(Outcome::Flushed(flushed))
    }

    /// The gate was closed by the loop.
    async fn kill(&self) -> Result<Outcome, WorkError> {
        let cgroup = self.server.runs().and_then(|(_, cgroup)| cgroup.metadata().ok());
        let (released, killed) = tokio::join!(self.doors.address.release(), self.server.kill());
        killed?;
        if let Some(cgroup) = cgroup {
            self.door.end(cgroup.ino());
        }
        released?;
        self.doors.guard.stand_down();
        self.doors.hold().gate = None;
        Ok(Outcome::Killed)
    }

    async fn follow_order(&self, command: Command) -> Result<Outcome, WorkError> {
        let server = &self.server;
        Ok(match command {
            Command::Keep(kept) => {
                self.drawer.keep(&kept).await?;
                Outcome::Done
            }
            Command::Start => Outcome::Stopped(server.start().await?),
            Command::Restart { voters } => self.restart(&voters).await?,
            Command::StopStreaming => Outcome::Stopped(server.stop_streaming().await?),
            Command::CatchUp { from, to } => Outcome::Stopped(server.catch_up(&from, to).await?),
            Command::Follow { of, epoch: _ } => {
                server.follow(&of).await?;
                Outcome::Done
            }
            Command::Rewind { from } => Outcome::Stopped(server.rewind(&from).await?),
            Command::Exchange { from } => Outcome::Stopped(server.exchange(&from).await?),
            Command::Promote { timeline, voters } => self.promote(timeline, &voters).await?,
            Command::UseVoters(voters) => Outcome::Flushed(server.use_voters(&voters).await?),
            Command::Admit => {
                server.admit().await?;
                Outcome::Done
            }
            Command::Kill => self.kill().await?,
        })
    }
}

/// Whether PostgreSQL runs only once this has worked.
const fn starts(command: &Command) -> bool {
    match command {
        Command::Start
        | Command::Restart { .. }
        | Command::Rewind { .. }
        | Command::Exchange { .. } => true,
        Command::Keep(_)
        | Command::StopStreaming
        | Command::CatchUp { .. }
        | Command::Follow { .. }
        | Command::Promote { .. }
        | Command::UseVoters(_)
        | Command::Admit
        | Command::Kill => false,
    }
}

/// So much sooner than the gate is the guardian.
fn rest(lease: Option<Timings>) -> Duration {
    lease.map(|lease| lease.duration() - lease.drop_after()).unwrap_or_default()
}

impl Hands for Works {
    async fn carry_out(&self, command: Command) -> Outcome {
        let starts = starts(&command);
        let error = match self.follow_order(command).await {
            Ok(outcome) => return outcome,
            Err(error) => error,
        };
        tracing::warn!("the order did not work: {error}");
        self.failures.note(FailureKind::Order, error.to_string(), unix_ms());
        // That nothing runs after a start that failed is what that says, and it is tried again after a while: the end
        // of a server would have it tried again at once, and without end.
        if !starts && self.server.runs().is_none() {
            let _ = self.doors.tell.send(Told::Event(Event::Gone)).await;
        }
        Outcome::Failed
    }
}
