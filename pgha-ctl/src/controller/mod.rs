//! `pgha controller`: keeps the data plane equal to what health says.
//!
//! It starts in this order: configuration, [`preflight`], the data plane with what a former
//! controller left in it, the machine, the program on the interface (at once over a former
//! controller's, otherwise when everybody was checked). Then one loop takes in what the
//! watchers ([`watch`]), the kernel's neighbour table, the operators ([`api`]) and signals say, hands
//! it to the machine, and carries out the effects that come back. When it ends, however it ends, the
//! data plane goes on by the last maps.

mod answer;
mod api;
mod error;
mod neighbours;
mod news;
mod preflight;
mod primary;
mod reload;
pub mod status;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgha_machine::Mac;
use pgha_machine::balancer::{Balancer, Effect};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bpf::PinDirectory;
use crate::bpf::xdp::{Attached, DataPlane, DirectorPlan, PacketLog, Port, Settings};
use crate::config::Config;
use crate::net::{Interface, NeighbourWatch, Netlink, local_addresses};
use api::{ControlSocket, Request};
use neighbours::Announcements;
use primary::PrimaryKnown;
use watch::{Orders, Told, Watchers};

pub use error::ControllerError;

/// How often the log of verdicts is written out.
const FLUSH: Duration = Duration::from_millis(100);
/// How often the maps are read back and repaired, and the neighbours confirmed.
const REPAIR: Duration = Duration::from_secs(10);
/// Runs until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting. Nothing is left attached then that was not there before.
pub async fn run(path: &Path) -> Result<(), ControllerError> {
    // From here on a signal waits for the loop: a start is never cut in half by one.
    let signals = Signals::new()?;
    let config = Config::load(path)?;
    config.check_files(path)?;
    config.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
    preflight::capabilities()?;
    let netlink = Netlink::connect()?;
    let interface = preflight::interface(netlink.handle(), &config).await?;
    preflight::login(&config).await?;
    let local = local_addresses(netlink.handle()).await?;
    let mut controller = Controller::start(path, config, interface, local, netlink).await?;
    controller.run(signals).await
}

/// A running controller.
struct Controller {
    path: PathBuf,
    config: Config,
    netlink: Netlink,
    interface: Interface,
    balancer: Balancer,
    plane: DataPlane,
    /// The log of verdicts, where it is wanted.
    packet_log: Option<PacketLog>,
    taken_over: bool,
    /// The program is not on the interface yet, and will be by then.
    attach_by: Option<Instant>,
    /// MAC address of the interface, followed.
    mac: Mac,
    /// MAC addresses of the other directors, by address.
    peers: BTreeMap<Ipv4Addr, Mac>,
    neighbours: NeighbourWatch,
    watchers: Watchers,
    orders: tokio::sync::watch::Sender<Orders>,
    primary_task: Option<JoinHandle<()>>,
    primary: Option<PrimaryKnown>,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    requests: mpsc::Receiver<Request>,
    api_task: JoinHandle<()>,
    _socket: ControlSocket,
    announcements: Announcements,
    started: Instant,
}

impl Controller {
    async fn start(
        path: &Path,
        config: Config,
        interface: Interface,
        local: BTreeSet<Ipv4Addr>,
        netlink: Netlink,
    ) -> Result<Self, ControllerError> {
        let pins = PinDirectory::new(config.director().bpffs(), config.cluster().as_str())?;
        let taken = preflight::taken_vip(&interface, &config).await;
        let plane = DataPlane::load(Settings {
            pins,
            flows: config.director().flows(),
            pending_flows: config.director().pending_flows(),
            log_packets: config.director().log_packets(),
        })?;
        let inherited = plane.inherited();
        // Since the lock is held nobody else attaches anything of this cluster.
        let interface = Interface::find(netlink.handle(), interface.name()).await?;
        match taken {
            // A data plane that serves is not given up because somebody else answers too.
            Err(error) if !inherited.services.is_empty() => tracing::warn!("{error}"),
            taken => taken?,
        }
        let orders = Orders {
            login: config.login().clone(),
            interval: config.health().interval(),
            timeout: config.health().timeout(),
        };
        let (orders, ordered) = tokio::sync::watch::channel(orders);
        // Small channels: who tells faster than the loop takes in has to wait, and loses nothing.
        let (tell, told) = mpsc::channel(64);
        let (request, requests) = mpsc::channel(16);
        // Until the kernel has told anew, those that a former controller knew.
        let mut peers = plane.peers();
        peers.retain(|address, _| {
            config.director().peers().iter().any(|peer| peer.address() == *address)
        });
        let neighbours = NeighbourWatch::new(interface.index())?;
        let (listener, socket) = ControlSocket::open(config.director().control())?;
        let mut controller = Self {
            path: path.to_owned(),
            balancer: Balancer::new(config.balancer(local), &inherited),
            mac: interface.mac(),
            peers,
            neighbours,
            watchers: Watchers::new(ordered, tell.clone()),
            orders,
            primary_task: None,
            primary: None,
            tell,
            told,
            requests,
            api_task: tokio::spawn(api::serve(listener, request)),
            _socket: socket,
            announcements: Announcements::from_now(),
            started: Instant::now(),
            packet_log: None,
            taken_over: false,
            attach_by: None,
            plane,
            config,
            netlink,
            interface,
        };
        if inherited.services.is_empty() {
            controller.plane.judge(&controller.port())?;
            controller.attach_by = Some(controller.settled_by());
        } else {
            controller.attach()?;
        }
        controller.ask_primary();
        Ok(controller)
    }

    /// By when a first start waits no longer for checks. Until then connections that the VIPs have, of
    /// a director before or beside this one, go nowhere and are sent again, instead of being reset by
    /// tables without servers.
    fn settled_by(&self) -> Instant {
        let health = self.config.health();
        self.started + health.interval() * (u32::from(health.rise()) + 1) + health.timeout()
    }

    fn port(&self) -> Port {
        Port {
            name: self.interface.name().to_owned(),
            index: self.interface.index().get(),
            mac: self.mac,
            program: self.interface.xdp().map(|attachment| attachment.prog_id),
        }
    }

    /// Puts the program on the interface, with maps that are right before its first frame.
    fn attach(&mut self) -> Result<(), ControllerError> {
        let port = self.port();
        self.plane.judge(&port)?;
        self.tell_sizes()?;
        if self.config.director().log_packets() {
            self.packet_log = Some(self.plane.packet_log()?);
        }
        self.plane.apply(&self.director_plan(), &self.balancer.plan())?;
        self.taken_over = self.plane.attach(&port)? == Attached::TakenOver;
        self.attach_by = None;
        self.announcements = Announcements::from_now();
        let what = if self.taken_over { "taken over on" } else { "attached to" };
        tracing::info!(interface = self.interface.name(), "XDP program {what} the interface");
        Ok(())
    }

    fn tell_sizes(&self) -> Result<(), ControllerError> {
        let (flows, pending) = self.plane.flow_capacity()?;
        let wanted = (self.config.director().flows(), self.config.director().pending_flows());
        if (flows, pending) != wanted {
            tracing::warn!(
                "the flow tables taken over hold {flows} and {pending} flows, not {} and {} as \
                 configured; to resize them, which empties them: pgha detach, then start again",
                wanted.0,
                wanted.1
            );
        }
        Ok(())
    }

    async fn run(&mut self, mut signals: Signals) -> Result<(), ControllerError> {
        let mut repair = tokio::time::interval(REPAIR);
        let mut flush = tokio::time::interval(FLUSH);
        loop {
            self.carry_out().await;
            if let Some(moment) = self.attach_by
                && (self.balancer.is_settled() || Instant::now() >= moment)
            {
                self.attach()?;
            }
            let announcement = self.announcements.next().filter(|_| self.attach_by.is_none());
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => self.reload().await,
                Some(told) = self.told.recv() => self.take_in(told),
                Some(request) = self.requests.recv() => self.answer(request),
                change = self.neighbours.next() => self.neighbour(change).await?,
                _ = repair.tick() => self.repair().await,
                _ = flush.tick(), if self.packet_log.is_some() => self.flush_packet_log(),
                () = until(announcement) => self.announce(),
                () = until(self.attach_by) => {}
            }
        }
        if self.attach_by.is_none() {
            tracing::info!(
                "ending; the data plane goes on by the last maps (pgha detach takes it down)"
            );
        }
        Ok(())
    }

    /// Does what the machine asks for.
    async fn carry_out(&mut self) {
        let mut program = false;
        while let Some(effect) = self.balancer.poll_effect() {
            match effect {
                Effect::Watch(target) => self.watchers.watch(target),
                Effect::Unwatch(target) => self.watchers.unwatch(target),
                Effect::CheckNow(target) => self.watchers.check_now(target),
                Effect::Resolve(address) => self.resolve(address).await,
                Effect::Program => program = true,
                Effect::Tell(news) => news::tell(&news),
            }
        }
        if program {
            self.program();
        }
    }

    fn program(&mut self) {
        if let Err(error) = self.plane.apply(&self.director_plan(), &self.balancer.plan()) {
            tracing::warn!("the data plane could not be written, trying again soon: {error}");
        }
    }

    fn flush_packet_log(&mut self) {
        if let Some(log) = &mut self.packet_log {
            log.flush();
        }
    }

    fn director_plan(&self) -> DirectorPlan {
        DirectorPlan {
            mac: self.mac,
            active: true,
            peers: self.peers.iter().map(|(address, mac)| (*mac, *address)).collect(),
        }
    }

    /// The periodic full pass: whatever drifted is put right.
    async fn repair(&mut self) {
        match self.plane.observe() {
            Ok(()) => self.program(),
            Err(error) => tracing::warn!("the data plane could not be read: {error}"),
        }
        self.confirm_neighbours().await;
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.api_task.abort();
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

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
