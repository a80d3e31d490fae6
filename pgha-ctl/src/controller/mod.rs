//! `pgha controller`: keeps the data plane equal to what health says.
//!
//! It starts in this order: configuration, [`preflight`], the data plane with what a former
//! controller left in it, the machine, the program on the interface. Then one loop takes in what the
//! watchers ([`watch`]), the kernel's neighbour table, the operators ([`api`]) and signals say, hands
//! it to the machine, and carries out the effects that come back. When it ends, however it ends, the
//! data plane goes on by the last maps.

mod api;
mod preflight;
pub mod status;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgha_common::verdict::Reason;
use pgha_machine::Mac;
use pgha_machine::balancer::{
    Balancer, Down, Effect, Event, News, Order, PrimaryAnswer, Target, Walsender,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bpf::PinDirectory;
use crate::bpf::xdp::{Attached, DataPlane, DirectorPlan, Port, Settings, XdpError};
use crate::config::{Config, ConfigErrors, Peer, RestartNeeded};
use crate::net::{
    Change, Interface, NeighbourWatch, NetError, Netlink, arp, caps, local_addresses,
};
use crate::postgres::{PgError, PrimaryReport};
use api::Request;
use status::{
    DirectorStatus, OrderKind, OrderReply, OrderRequest, PrimaryStatus, Refusal, SCHEMA,
    ServiceStatus, Status, TrafficStatus,
};
use watch::{Orders, Told, Watchers, watch_primary};

/// How often the maps are read back and repaired, and the neighbours confirmed.
const REPAIR: Duration = Duration::from_secs(10);
/// When the VIPs are announced again after a start (RFC 5227, ANNOUNCE_INTERVAL and more of them:
/// one frame may be lost).
const ANNOUNCEMENTS: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(8)];

/// Why a controller did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The process may not do what it must.
    #[error(
        "missing {}: run the controller as root, or give it these capabilities (systemd: \
         AmbientCapabilities=)",
        names(.0)
    )]
    Capabilities(Vec<caps::Capability>),
    /// The capabilities are not known.
    #[error(transparent)]
    Caps(#[from] caps::CapsError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The data plane.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// PostgreSQL refuses the login.
    #[error(
        "PostgreSQL at {host}:{port} refuses user {user}: {source}; correct [postgres] user, dbname \
         and passfile, or pg_hba.conf there"
    )]
    Login {
        /// Where.
        host: Ipv4Addr,
        /// Its port.
        port: u16,
        /// Who.
        user: String,
        /// What it says.
        source: Box<PgError>,
    },
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] api::SocketError),
    /// The runtime.
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
}

fn names(capabilities: &[caps::Capability]) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl From<crate::bpf::PinError> for ControllerError {
    fn from(error: crate::bpf::PinError) -> Self {
        Self::Xdp(error.into())
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting. Nothing is left attached then that was not there before.
pub async fn run(path: &Path) -> Result<(), ControllerError> {
    let config = Config::load(path)?;
    config.check_files(path)?;
    config.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
    preflight::capabilities()?;
    let netlink = Netlink::connect()?;
    let interface = preflight::interface(netlink.handle(), &config).await?;
    preflight::login(&config).await?;
    let local = local_addresses(netlink.handle()).await?;
    let mut controller = Controller::start(path, config, interface, local, netlink).await?;
    controller.run().await
}

/// A running controller.
struct Controller {
    path: PathBuf,
    config: Config,
    netlink: Netlink,
    interface: Interface,
    balancer: Balancer,
    plane: DataPlane,
    taken_over: bool,
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
    announced: usize,
    started: Instant,
}

/// What is known of the primary beyond the machine's need.
struct PrimaryKnown {
    host: Option<Ipv4Addr>,
    lsn: Option<String>,
    last_answer: Instant,
    errors: Vec<String>,
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
        let neighbours = NeighbourWatch::new(interface.index())?;
        let listener = api::open(config.director().control())?;
        let mut controller = Self {
            path: path.to_owned(),
            balancer: Balancer::new(config.balancer(local), &inherited),
            mac: interface.mac(),
            peers: BTreeMap::new(),
            neighbours,
            watchers: Watchers::new(ordered, tell.clone()),
            orders,
            primary_task: None,
            primary: None,
            tell,
            told,
            requests,
            api_task: tokio::spawn(api::serve(listener, request)),
            announced: 0,
            started: Instant::now(),
            taken_over: false,
            plane,
            config,
            netlink,
            interface,
        };
        controller.attach()?;
        controller.ask_primary();
        Ok(controller)
    }

    /// Writes the first maps, then puts the program on the interface.
    fn attach(&mut self) -> Result<(), ControllerError> {
        self.plane.apply(&self.director_plan(), &self.balancer.plan())?;
        let port = Port {
            name: self.interface.name().to_owned(),
            index: self.interface.index().get(),
            mac: self.mac,
            program: self.interface.xdp().map(|attachment| attachment.prog_id),
        };
        let attached = self.plane.attach(&port)?;
        self.taken_over = attached == Attached::TakenOver;
        if self.config.director().log_packets() {
            log_packets(&mut self.plane);
        }
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
        let what = if self.taken_over { "taken over on" } else { "attached to" };
        tracing::info!(interface = self.interface.name(), "XDP program {what} the interface");
        Ok(())
    }

    async fn run(&mut self) -> Result<(), ControllerError> {
        let [mut hangup, mut terminate, mut interrupt] = [
            signals(SignalKind::hangup())?,
            signals(SignalKind::terminate())?,
            signals(SignalKind::interrupt())?,
        ];
        let mut repair = tokio::time::interval(REPAIR);
        self.carry_out().await;
        self.resolve_peers().await;
        loop {
            let announcement = self.next_announcement();
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload().await,
                Some(told) = self.told.recv() => self.take_in(told),
                Some(request) = self.requests.recv() => self.answer(request),
                change = self.neighbours.next() => self.neighbour(change).await?,
                _ = repair.tick() => self.repair().await,
                () = tokio::time::sleep_until(announcement.into()) => self.announce(),
            }
            self.carry_out().await;
        }
        tracing::info!(
            "ending; the data plane goes on by the last maps (pgha detach takes it down)"
        );
        // Only the file of a socket that nobody serves any more; a successor makes its own.
        let _ = std::fs::remove_file(self.config.director().control());
        Ok(())
    }

    fn take_in(&mut self, told: Told) {
        match told {
            Told::Event(event) => self.balancer.handle(event),
            Told::Primary(host, report) => {
                self.primary = Some(PrimaryKnown {
                    host: Some(host),
                    lsn: report.lsn.map(|lsn| lsn.to_string()),
                    last_answer: Instant::now(),
                    errors: Vec::new(),
                });
                let answer = self.identify(report);
                self.balancer.handle(Event::Primary(answer));
            }
            Told::PrimaryLost(errors) => {
                let errors: Vec<_> =
                    errors.into_iter().map(|(host, error)| format!("{host}: {error}")).collect();
                let started = self.started;
                let known = self.primary.get_or_insert_with(|| PrimaryKnown {
                    host: None,
                    lsn: None,
                    last_answer: started,
                    errors: Vec::new(),
                });
                if known.errors != errors {
                    tracing::warn!("the primary cannot be asked: {}", errors.join("; "));
                    known.errors = errors;
                }
                self.balancer.handle(Event::PrimaryLost);
            }
        }
    }

    /// Whose walsenders they are.
    fn identify(&self, report: PrimaryReport) -> PrimaryAnswer {
        let config = self.balancer.config();
        let walsenders = report.walsenders.into_iter().filter_map(|walsender| {
            let address = config.address_of(&walsender.application_name, walsender.client)?;
            Some(Walsender { address, sync_state: walsender.sync_state })
        });
        PrimaryAnswer { lsn: report.lsn, walsenders: walsenders.collect() }
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
                Effect::Tell(news) => tell(&news),
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

    fn director_plan(&self) -> DirectorPlan {
        DirectorPlan {
            mac: self.mac,
            active: true,
            peers: self.peers.iter().map(|(address, mac)| (*mac, *address)).collect(),
        }
    }

    async fn resolve(&self, address: Ipv4Addr) {
        if let Err(error) = self.neighbours.resolve(address).await {
            tracing::warn!(%address, "{error}");
        }
    }

    async fn resolve_peers(&self) {
        for peer in self.config.director().peers() {
            self.resolve(peer.address()).await;
        }
    }

    async fn neighbour(&mut self, change: Result<Change, NetError>) -> Result<(), ControllerError> {
        match change? {
            Change::Neighbour(event) => {
                let peer =
                    self.config.director().peers().iter().any(|p| p.address() == event.address);
                if let Some(mac) = event.mac.filter(|_| peer)
                    && self.peers.insert(event.address, mac) != Some(mac)
                {
                    self.program();
                }
                self.balancer.handle(Event::Neighbour(event.address, event.mac));
            }
            Change::Interface { mac, up } => {
                if let Some(mac) = mac.filter(|mac| *mac != self.mac) {
                    tracing::info!(%mac, "the interface has another MAC address");
                    self.mac = mac;
                    self.program();
                    self.interface =
                        Interface::find(self.netlink.handle(), self.interface.name()).await?;
                    self.announced = 0;
                    self.started = Instant::now();
                }
                if up {
                    self.confirm_neighbours().await;
                }
            }
            Change::InterfaceGone => {
                return Err(Interface::find(
                    self.netlink.handle(),
                    self.config.director().interface(),
                )
                .await
                .map_or_else(Into::into, |found| {
                    NetError::InterfaceDown { name: found.name().to_owned() }.into()
                }));
            }
        }
        Ok(())
    }

    async fn confirm_neighbours(&mut self) {
        let members: BTreeSet<Ipv4Addr> = self
            .balancer
            .view()
            .into_iter()
            .flat_map(|service| service.servers)
            .filter(|server| !server.local)
            .map(|server| server.address)
            .collect();
        for address in members {
            self.resolve(address).await;
        }
        self.resolve_peers().await;
    }

    /// The periodic full pass: whatever drifted is put right.
    async fn repair(&mut self) {
        match self.plane.observe() {
            Ok(()) => self.program(),
            Err(error) => tracing::warn!("the data plane could not be read: {error}"),
        }
        self.confirm_neighbours().await;
    }

    fn next_announcement(&self) -> Instant {
        // A day stands for never: the loop comes by long before.
        let wait =
            ANNOUNCEMENTS.get(self.announced).copied().unwrap_or(Duration::from_secs(86_400));
        self.started
            + wait
            + if self.announced < ANNOUNCEMENTS.len() {
                Duration::ZERO
            } else {
                self.started.elapsed()
            }
    }

    fn announce(&mut self) {
        self.announced += 1;
        for vip in preflight::vips(&self.config) {
            if let Err(error) = arp::announce(&self.interface, vip) {
                tracing::warn!(%vip, "{error}");
            }
        }
    }

    fn ask_primary(&mut self) {
        if let Some(task) = self.primary_task.take() {
            task.abort();
        }
        if let Some(primary) = self.config.primary() {
            let task = watch_primary(primary.clone(), self.orders.subscribe(), self.tell.clone());
            self.primary_task = Some(tokio::spawn(task));
        }
    }

    /// Takes a new configuration, or keeps the old one and says what is wrong with the new.
    async fn reload(&mut self) {
        match self.reloaded().await {
            Ok(()) => tracing::info!("reloaded {}", self.path.display()),
            Err(error) => tracing::warn!("the old configuration stays in force: {error}"),
        }
    }

    async fn reloaded(&mut self) -> Result<(), ReloadError> {
        let config = Config::load(&self.path)?;
        config.check_files(&self.path)?;
        let fixed = self.config.changes_needing_restart(&config);
        if !fixed.is_empty() {
            return Err(ReloadError::Restart(fixed));
        }
        let interface =
            Interface::find(self.netlink.handle(), config.director().interface()).await?;
        interface.usable_for(&preflight::vips(&config))?;
        let local = local_addresses(self.netlink.handle()).await?;
        config.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
        let primary_changed = config.primary() != self.config.primary();
        let new_vips = preflight::vips(&config) != preflight::vips(&self.config);
        self.orders.send_replace(Orders {
            login: config.login().clone(),
            interval: config.health().interval(),
            timeout: config.health().timeout(),
        });
        self.balancer.handle(Event::Configured(config.balancer(local)));
        self.config = config;
        let peers: BTreeSet<_> = self.config.director().peers().iter().map(Peer::address).collect();
        self.peers.retain(|address, _| peers.contains(address));
        self.program();
        self.resolve_peers().await;
        if primary_changed {
            self.ask_primary();
        }
        if new_vips {
            self.announced = 0;
            self.started = Instant::now();
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) {
        // Whoever asked may be gone by now.
        match request {
            Request::Status(reply) => {
                let _ = reply.send(self.status().map_err(|error| refusal(&error)));
            }
            Request::Order(order, reply) => {
                let _ = reply.send(self.order(&order));
            }
        }
    }

    fn order(&mut self, request: &OrderRequest) -> Result<OrderReply, Refusal> {
        let address = self.server_named(&request.server)?;
        let order = match request.order {
            OrderKind::Weight { weight } => Order::Weight(weight),
            OrderKind::Drain => Order::Drain,
            OrderKind::Undrain => Order::Undrain,
        };
        let services: Vec<_> = self
            .config
            .services()
            .iter()
            .filter(|service| request.service.as_ref().is_none_or(|name| *name == service.name))
            .map(|service| (service.vip, service.port))
            .filter(|service| self.balancer.has_member(*service, address))
            .collect();
        if services.is_empty() {
            let of =
                request.service.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
            return Err(refusal(&format!(
                "{} is no real server{of}; `pgha status` lists them",
                request.server
            )));
        }
        for service in &services {
            self.balancer.handle(Event::Steered { service: *service, address, order });
        }
        // The reply says what is, so the maps come first.
        self.program();
        tracing::info!(%address, ?order, "ordered by an operator");
        let mut views = self.balancer.view();
        views.retain(|view| services.contains(&(view.vip, view.port)));
        Ok(OrderReply { schema: SCHEMA, services: views })
    }

    fn server_named(&self, name: &str) -> Result<Ipv4Addr, Refusal> {
        let node = self.config.nodes().iter().find(|node| node.name.as_str() == name);
        node.map(|node| node.address).or_else(|| name.parse().ok()).ok_or_else(|| {
            refusal(&format!("{name:?} is neither a name in the node table nor an IPv4 address"))
        })
    }

    fn status(&self) -> Result<Status, XdpError> {
        let counters = self.plane.counters()?;
        let (flows, pending_flows) = self.plane.flow_capacity()?;
        let mut services = Vec::new();
        for view in self.balancer.view() {
            let mut traffic = BTreeMap::new();
            for server in &view.servers {
                let sum = self.plane.traffic(server.id)?;
                let sum =
                    TrafficStatus { packets: sum.packets, bytes: sum.bytes, flows: sum.flows };
                traffic.insert(server.id, sum);
            }
            services.push(ServiceStatus { view, traffic });
        }
        Ok(Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.config.cluster().clone(),
            director: DirectorStatus {
                interface: self.interface.name().to_owned(),
                mac: self.mac.to_string(),
                active: true,
                flows,
                pending_flows,
                pid: std::process::id(),
                taken_over: self.taken_over,
            },
            primary: self.config.primary().map(|_| self.primary_status()),
            services,
            received: counters.received,
            reasons: Reason::ALL
                .iter()
                .map(|reason| (reason.name().to_owned(), counters.reasons[*reason as usize]))
                .collect(),
        })
    }

    fn primary_status(&self) -> PrimaryStatus {
        let answers = self.balancer.primary_answers();
        let since = self.primary.as_ref().map_or(self.started, |known| known.last_answer);
        let age = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        PrimaryStatus {
            answers,
            host: self.primary.as_ref().and_then(|known| known.host),
            lsn: self.primary.as_ref().and_then(|known| known.lsn.clone()),
            stale_ms: (!answers).then_some(age),
            errors: self.primary.as_ref().map(|known| known.errors.clone()).unwrap_or_default(),
        }
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

/// Why a new configuration was not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Restart(Vec<RestartNeeded>),
}

fn signals(kind: SignalKind) -> Result<Signal, ControllerError> {
    signal(kind).map_err(ControllerError::Signals)
}

fn refusal(error: &impl ToString) -> Refusal {
    Refusal { error: error.to_string() }
}

fn log_packets(plane: &mut DataPlane) {
    if let Err(error) = aya_log::EbpfLogger::init(plane.ebpf()) {
        tracing::warn!("packets are not logged: {error}");
    }
}

fn tell(news: &News) {
    let at = |target: &Target| format!("{}:{}", target.address, target.port);
    match news {
        News::PrimaryAnswers(count) => {
            tracing::info!("the primary answers; {count} standbys stream");
        }
        News::PrimaryLost => {
            tracing::warn!("the primary does not answer; the readers stay as they are");
        }
        News::Joined(target) => tracing::info!("{} is a member now", at(target)),
        News::Left(target) => tracing::info!("{} is no member any more", at(target)),
        News::Up(target) => tracing::info!("{} gets new connections", at(target)),
        News::Down(target, Down::NotInRecovery) => {
            tracing::info!("{} is no reader: it is not in recovery", at(target));
        }
        News::Down(target, down) => {
            tracing::warn!("{} gets no new connections: {down}", at(target));
        }
        News::Moved(address, mac) => tracing::info!("{address} has MAC address {mac} now"),
        News::Full(target) => {
            tracing::warn!("{} gets no traffic: every id for real servers is in use", at(target));
        }
    }
}
