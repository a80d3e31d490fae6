//! How a controller begins: what it finds, what it opens, and the program on the interfaces.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Instant, SystemTime};

use pgha_machine::balancer::{Balancer, Inherited};
use pgha_machine::director::{self, Role};
use tokio::sync::mpsc;

use super::api::{self, ControlSocket};
use super::book::Book;
use super::changes::Changes;
use super::claims::Listening;
use super::ended::Ended;
use super::events::{Events, Happening, Kind};
use super::fencing::{self, Fencing, Observer};
use super::history::History;
use super::leaks::Leaks;
use super::neighbours::Announcements;
use super::pace::Pace;
use super::peers::Peers;
use super::primary::PrimaryKnown;
use super::probes::Probes;
use super::served::Served;
use super::survey::Surveys;
use super::watch::{Manner, Watchers};
use super::{Controller, ControllerError, Interfaces, preflight, role};
use crate::bpf::PinDirectory;
use crate::bpf::xdp::{DataPlane, FlowCapacity, Mode, Settings};
use crate::config::{Config, Director};
use crate::net::raw::RawSender;
use crate::net::{NeighbourWatch, Netlink};
use crate::telemetry::service::Service;

/// What a start finds.
struct Found {
    plane: DataPlane,
    interfaces: Interfaces,
    inherited: Inherited,
    listening: Listening,
    role: Role,
}

impl Found {
    async fn look(config: &Config, netlink: &Netlink) -> Result<Self, ControllerError> {
        let pins = PinDirectory::new(config.director().bpffs(), config.cluster().as_str())?;
        let plane = DataPlane::load(settings(pins, config.director()))?;
        // Since the lock is held nobody else attaches anything of this cluster.
        let interfaces = Interfaces::find(netlink.handle(), config).await?;
        let mut inherited = plane.inherited();
        interfaces.renumber(&mut inherited);
        // Before anybody is asked: what is said meanwhile waits to be heard.
        let listening = Listening::open(&interfaces, &preflight::vips(config))?;
        let role = match (inherited.services.is_empty(), plane.is_active()) {
            (false, true) => Role::Active,
            (false, false) => Role::Standby,
            (true, _) => preflight::role(&interfaces, config, None).await?,
        };
        Ok(Self { plane, interfaces, inherited, listening, role })
    }

    /// Whether a former controller's data plane serves.
    fn serves(&self) -> bool {
        !self.inherited.services.is_empty()
    }
}

impl Controller {
    /// One that has begun its work.
    pub(super) async fn start(
        path: &Path,
        config: Config,
        local: BTreeSet<IpAddr>,
        netlink: Netlink,
        observer: Observer,
    ) -> Result<Self, ControllerError> {
        let found = Found::look(&config, &netlink).await?;
        let serves = found.serves();
        let mut controller = Self::assemble(path, config, local, netlink, found, observer).await?;
        controller.read_orders().await;
        if serves {
            controller.attach()?;
            controller.confirm_role().await;
        } else {
            controller.plane.judge(&controller.interfaces.ports())?;
            controller.attach_by = Some(controller.settled_by());
        }
        controller.ask_primary();
        Ok(controller)
    }

    /// One that has asked nobody and told nobody anything yet.
    async fn assemble(
        path: &Path,
        config: Config,
        local: BTreeSet<IpAddr>,
        netlink: Netlink,
        found: Found,
        observer: Observer,
    ) -> Result<Self, ControllerError> {
        let (manner, asked) = tokio::sync::watch::channel(Manner::of(&config));
        // Small channels: who tells faster than the loop takes in has to wait, and loses nothing.
        let (tell, told) = mpsc::channel(64);
        let (request, requests) = mpsc::channel(16);
        let (listener, socket) = ControlSocket::open(config.director().control())?;
        let book = Book::new(config.store(), config.cluster());
        let fencing = Fencing::begin(&config, book.store(), observer)?;
        let failover = fencing::router(fencing.as_ref(), book.store());
        let router = api::router(request, book.store(), failover);
        let api = Served::start(listener, config.api(), &router).await?;
        Ok(Self {
            path: path.to_owned(),
            balancer: Balancer::new(config.balancer(local), &found.inherited),
            // Until the kernel has told anew.
            peers: Peers::inherit(found.plane.peers(), config.director()),
            role: director::Director::new(found.role),
            waiting: role::Waiting::default(),
            listening: found.listening,
            ended: Ended::new(found.plane.flow_reader()?, RawSender::open()?),
            leaks: Leaks::default(),
            surveys: Surveys::default(),
            probes: Probes::new(&config),
            neighbours: NeighbourWatch::new(&found.interfaces.indices())?,
            without_carrier: BTreeSet::new(),
            was_cut_off: None,
            watchers: Watchers::new(asked, tell.clone()),
            manner,
            primary_task: None,
            primary: PrimaryKnown::nothing(Instant::now()),
            tell,
            told,
            requests,
            api,
            service: Service::new(),
            fencing,
            book,
            _socket: socket,
            announcements: Announcements::none(),
            events: Events::default(),
            history: History::default(),
            changes: Changes::default(),
            pace: Pace::new(Instant::now()),
            started: Instant::now(),
            began: SystemTime::now(),
            trace: None,
            packet_logs: Vec::new(),
            attached: None,
            attach_by: None,
            plane: found.plane,
            config,
            netlink,
            interfaces: found.interfaces,
        })
    }

    /// By when a first start waits no longer for checks. Until then connections that the VIPs have, of
    /// a director before or beside this one, go nowhere and are sent again, instead of being reset by
    /// tables without servers.
    fn settled_by(&self) -> Instant {
        let health = self.config.health();
        self.started + health.interval() * (u32::from(health.rise()) + 1) + health.timeout()
    }

    /// Puts the program on the interfaces, with maps that are right before its first frame.
    pub(super) fn attach(&mut self) -> Result<(), ControllerError> {
        let ports = self.interfaces.ports();
        self.plane.judge(&ports)?;
        self.tell_sizes()?;
        if self.config.director().log_packets() {
            self.packet_logs = self.plane.packet_logs()?;
        }
        self.write()?;
        let attached = self.plane.attach(&ports)?;
        self.attached = Some(attached);
        self.balancer.begin();
        self.attach_by = None;
        if self.role.role() == Role::Active {
            self.announcements = Announcements::from_now();
        }
        let what = if attached.taken_over { "taken over on" } else { "attached to" };
        let names = self.interfaces.names().join(", ");
        let role = self.role.role().name();
        let mode = attached.mode.name();
        let text = format!("XDP program {what} {names}; mode {mode}, role {role}");
        self.tell(Happening::info(Kind::Attached, text));
        if attached.mode == Mode::Generic {
            let text = format!(
                "the XDP program runs in generic mode, which is slower than natively: not every \
                 driver of {names} has native XDP; use devices whose drivers have it"
            );
            self.tell(Happening::warning(Kind::Attached, text));
        }
        Ok(())
    }

    fn tell_sizes(&self) -> Result<(), ControllerError> {
        let found = self.plane.flow_capacity()?;
        let wanted = wanted_capacity(self.config.director());
        if found != wanted {
            tracing::warn!(
                "the flow tables taken over hold {} flows, not {} as configured; to resize them, \
                 which empties them: pgha detach, then start again",
                listed(found),
                listed(wanted)
            );
        }
        Ok(())
    }
}

fn settings(pins: PinDirectory, director: &Director) -> Settings {
    Settings {
        pins,
        capacity: wanted_capacity(director),
        log_packets: director.log_packets(),
        interfaces: u8::try_from(director.interfaces().len()).unwrap_or(u8::MAX),
    }
}

fn wanted_capacity(director: &Director) -> FlowCapacity {
    FlowCapacity {
        flows: director.flows(),
        flows_ipv6: director.flows_ipv6(),
        pending_flows: director.pending_flows(),
        pending_flows_ipv6: director.pending_flows_ipv6(),
    }
}

fn listed(capacity: FlowCapacity) -> String {
    let FlowCapacity { flows, flows_ipv6, pending_flows, pending_flows_ipv6 } = capacity;
    format!("{flows} and {pending_flows} (IPv6: {flows_ipv6} and {pending_flows_ipv6})")
}
