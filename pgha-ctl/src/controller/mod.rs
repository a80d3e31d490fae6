//! `pgha controller`: keeps the data plane equal to what health says.
//!
//! It starts in this order: configuration, [`preflight`], the data plane with what a former
//! controller left in it, the machine, the program on the interface (at once over a former
//! controller's, otherwise when everybody was checked). Then one loop takes in what the
//! watchers ([`watch`]), the kernel's neighbour table, the operators ([`api`]) and signals say, hands
//! it to the machine, and carries out the effects that come back. When it ends, however it ends, the
//! data plane goes on by the last maps. Beside that loop, and whatever becomes of it, [`fencing`] decides about
//! the failover of managed nodes.

mod access;
mod answer;
mod api;
mod book;
mod changes;
mod claims;
mod ended;
mod error;
pub mod events;
pub(crate) mod explain;
pub mod failover;
mod fencing;
pub(crate) mod flows;
mod health;
pub mod history;
mod interfaces;
mod leaks;
mod metrics;
pub(crate) mod named;
mod neighbours;
mod news;
mod ordered;
mod orders;
mod pace;
mod peers;
mod preflight;
mod primary;
mod probes;
mod reload;
mod role;
mod served;
mod start;
pub mod state;
pub mod status;
mod survey;
pub(crate) mod trace;
mod turns;
mod watch;
mod web;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pgha_machine::Moment;
use pgha_machine::balancer::{Balancer, Effect, Event, ServiceView};
use pgha_machine::director::{self, Role};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use crate::bpf::xdp::{Active, Attached, DataPlane, DirectorPlan, PacketLog, XdpError};
use crate::config::{Config, Vlan};
use crate::net::{IfIndex, NeighbourWatch, Netlink, local_addresses};
use crate::telemetry::service::Service;
use api::{ControlSocket, Request};
use book::Book;
use changes::Changes;
use claims::Listening;
use ended::Ended;
use events::Events;
use fencing::{Fencing, Word};
use health::CutOff;
use history::History;
use leaks::Leaks;
use neighbours::Announcements;
use pace::Pace;
use peers::Peers;
use primary::PrimaryKnown;
use probes::Probes;
use served::Served;
use state::ServerState;
use survey::Surveys;
use watch::{Manner, Told, Watchers};

pub use error::{ControllerError, InterfacesError};
pub use fencing::{Observer, Step};
pub(crate) use interfaces::Interfaces;
pub(crate) use preflight::{CAPABILITIES, vips};
pub(crate) use web::token;

/// How often the log of verdicts is written out.
const FLUSH: Duration = Duration::from_millis(100);
/// How often the maps are read back and repaired, and the neighbours confirmed.
const REPAIR: Duration = Duration::from_secs(10);
/// How often it is looked at since when servers are as they are, besides when something happens to them.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting. Nothing is left attached then that was not there before.
pub async fn run(path: &Path) -> Result<(), ControllerError> {
    run_observed(path, Arc::new(|_, _| {})).await
}

/// The same, and `observer` is told every step of its coordinator.
///
/// # Errors
/// As [`run`].
pub async fn run_observed(path: &Path, observer: Observer) -> Result<(), ControllerError> {
    // From here on a signal waits for the loop: a start is never cut in half by one.
    let signals = Signals::new()?;
    preflight::give_up_rights()?;
    let config = Config::load(path)?;
    config.check_files(path)?;
    config.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
    preflight::capabilities()?;
    let netlink = Netlink::connect()?;
    preflight::interfaces(netlink.handle(), &config).await?;
    preflight::login(&config).await?;
    let local = local_addresses(netlink.handle()).await?;
    let mut controller = Controller::start(path, config, local, netlink, observer).await?;
    controller.run(signals).await
}

/// A running controller.
struct Controller {
    path: PathBuf,
    config: Config,
    netlink: Netlink,
    /// As they were last; their MAC addresses are followed.
    interfaces: Interfaces,
    balancer: Balancer,
    // Before `plane`, which holds the lock: who goes on with the pins has its clients to itself.
    ended: Ended,
    plane: DataPlane,
    /// The logs of verdicts, where they are wanted.
    packet_logs: Vec<PacketLog>,
    /// How the program came onto the interfaces; `None` while it is not there.
    attached: Option<Attached>,
    /// The program is not on the interfaces yet, and will be by then.
    attach_by: Option<Instant>,
    peers: Peers,
    role: director::Director,
    waiting: role::Waiting,
    listening: Listening,
    leaks: Leaks,
    surveys: Surveys,
    probes: Probes,
    neighbours: NeighbourWatch,
    /// The interfaces that have no carrier.
    without_carrier: BTreeSet<IfIndex>,
    /// Why this node reached nobody when it was looked at last.
    was_cut_off: Option<CutOff>,
    watchers: Watchers,
    manner: tokio::sync::watch::Sender<Manner>,
    primary_task: Option<JoinHandle<()>>,
    primary: PrimaryKnown,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    requests: mpsc::Receiver<Request>,
    book: Book,
    api: Served,
    service: Service,
    fencing: Option<Fencing>,
    _socket: ControlSocket,
    announcements: Announcements,
    events: Events,
    history: History,
    changes: Changes,
    /// When the data plane is written.
    pace: Pace,
    started: Instant,
    /// The same moment by the clock on the wall.
    began: SystemTime,
    /// Hands frames to who traces.
    trace: Option<JoinHandle<()>>,
}

impl Controller {
    async fn run(&mut self, mut signals: Signals) -> Result<(), ControllerError> {
        let mut repair = every(REPAIR);
        let mut flush = every(FLUSH);
        let mut leaks = every(leaks::ROUND);
        let mut sample = every(history::EVERY);
        let mut look = every(LOOK);
        loop {
            self.service.beat();
            self.carry_out().await;
            if let Some(moment) = self.attach_by
                && (self.balancer.is_settled() || Instant::now() >= moment)
            {
                self.attach()?;
            }
            if self.attach_by.is_none() {
                self.service.ready();
            }
            let announcement = self.announcements.next().filter(|_| self.attach_by.is_none());
            let role_due = self.role_due();
            let balancer_due = self.balancer_due();
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => self.reload(None).await,
                Some(told) = self.told.recv() => self.take_in_all(told),
                Some(request) = self.requests.recv() => self.answer(request).await,
                Some(kept) = self.book.next() => self.kept(kept),
                Some(happening) = self.api.next() => self.tell(happening),
                Some(word) = fencing::next(&mut self.fencing) => self.of_failover(word),
                change = self.neighbours.next() => self.neighbour(change).await?,
                claim = self.listening.next() => self.claimed(claim),
                Some(probed) = self.probes.next() => self.probed_all(probed),
                _ = leaks.tick() => self.look_for_leaks(),
                answers = self.leaks.next() => self.leaked(answers),
                surveyed = self.surveys.result() => self.surveyed(surveyed),
                () = until(role_due) => self.role_tick(),
                () = until(self.pace.due()) => {}
                () = until(balancer_due) => self.balancer.handle(self.now(), Event::Tick),
                _ = repair.tick() => self.repair().await,
                _ = sample.tick() => self.sample(),
                _ = look.tick() => self.look(),
                _ = flush.tick(), if !self.packet_logs.is_empty() => self.flush_packet_log(),
                () = trace::over(&mut self.trace) => self.end_trace(),
                () = until(announcement) => self.announce(),
                () = until(self.attach_by) => {}
                () = self.service.due() => {}
            }
        }
        self.service.stopping();
        if self.attach_by.is_none() {
            tracing::info!(
                "ending; the data plane goes on by the last maps (pgha detach takes it down)"
            );
        }
        Ok(())
    }

    /// This moment by the clock of the machine, which begins with the controller.
    fn now(&self) -> Moment {
        self.started.elapsed().into()
    }

    fn of_failover(&mut self, word: Word) {
        match word {
            Word::Happening(happening) => self.tell(happening),
            Word::Cluster(cluster) => {
                self.balancer.handle(self.now(), Event::Cluster(cluster));
            }
        }
    }

    /// When the machine wants to be asked again.
    fn balancer_due(&self) -> Option<Instant> {
        let due = self.balancer.poll_timeout()?;
        Some(self.started + due.since(Moment::default()))
    }

    /// Does what the machine asks for.
    async fn carry_out(&mut self) {
        while let Some(effect) = self.balancer.poll_effect() {
            match effect {
                Effect::Watch(target) => self.watchers.watch(target),
                Effect::Unwatch(target) => self.watchers.unwatch(target),
                Effect::CheckNow(target) => self.watchers.check_now(target),
                Effect::Resolve(address) => self.resolve(address).await,
                Effect::Probe(path, via) => self.probe(path, via),
                Effect::Unprobe(path) => self.unprobe(path),
                Effect::Program => self.pace.hasten(Instant::now()),
                Effect::ProgramSoon => self.pace.want(),
                Effect::Tell(news) => self.tell_news(&news),
            }
        }
        if self.pace.due().is_some_and(|due| due <= Instant::now()) {
            self.program();
            self.look();
        }
    }

    /// Has the data plane be what is said of it.
    fn program_what_waits(&mut self) {
        if self.pace.due().is_some() {
            self.program();
        }
    }

    /// Notes since when the servers are as they are.
    fn look(&mut self) {
        let views = self.balancer.view();
        self.changes.observe(&views, answer::wall());
        self.service.status(status_line(self.role.role(), &views));
        self.look_whether_cut_off();
    }

    fn program(&mut self) {
        let began = Instant::now();
        // No frame meets the maps yet: they are written once, when everybody was checked.
        if self.attach_by.is_none()
            && let Err(error) = self.write()
        {
            tracing::warn!("the data plane could not be written, trying again soon: {error}");
        }
        self.pace.written(began, Instant::now());
    }

    /// Makes the data plane equal to the plan, and has the clients told whose servers ended by that.
    fn write(&mut self) -> Result<(), XdpError> {
        let plan = self.balancer.plan();
        let reals = plan.services.iter().flat_map(|service| &service.reals);
        let alive =
            reals.filter(|real| !real.dead).map(|r| (r.real.id, r.real.generation)).collect();
        self.ended.spare(&alive);
        let written = self.plane.apply(&self.director_plan(), &plan);
        self.ended.begin(self.plane.take_ended().difference(&alive).copied().collect());
        written
    }

    fn flush_packet_log(&mut self) {
        self.packet_logs.iter_mut().for_each(PacketLog::flush);
    }

    fn director_plan(&self) -> DirectorPlan {
        DirectorPlan {
            macs: self.interfaces.macs(),
            active: match self.role.role() {
                Role::Active => Active::ForGood,
                Role::Standby | Role::TakingOver { .. } => Active::No,
            },
            forward_tagged: self.config.director().vlan() == Vlan::Forward,
            peers: self.peers.pairs(self.config.director()),
        }
    }

    /// The periodic full pass: whatever drifted is put right.
    async fn repair(&mut self) {
        match self.plane.observe() {
            Ok(()) => self.program(),
            Err(error) => tracing::warn!("the data plane could not be read: {error}"),
        }
        self.confirm_neighbours().await;
        self.survey();
        if self.listening.is_over() {
            self.listen();
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.end_trace();
        if let Some(task) = &self.primary_task {
            task.abort();
        }
    }
}

/// The signals a controller obeys.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, ControllerError> {
        let on = |kind| signal(kind).map_err(ControllerError::Signals);
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }
}

/// How it is, in a line.
fn status_line(role: Role, views: &[ServiceView]) -> String {
    let role = match role {
        Role::Active => "answers for the VIPs",
        Role::Standby => "stands by",
        Role::TakingOver { .. } => "takes the VIPs over",
    };
    let servers = || views.iter().flat_map(|view| &view.servers);
    let up = servers().filter(|server| ServerState::of(server) == ServerState::Up).count();
    format!("this director {role}; {up} of {} real servers are up", servers().count())
}

/// Rounds; those that a stall made miss their time are left out.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
