use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgha_machine::balancer::{AutoWeight, Discovery, LagLimits, Probe, Scheduler, Service};
use pgha_machine::failover::record::{Member, Mode};
use pgha_machine::{NodeName, Weight};

use super::address::Address;
use super::error::Remark;
use super::login::SslMode;
use super::model::Primary;

/// The managed nodes, and what holds for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    pub(super) mode: Mode,
    pub(super) pick: Pick,
    pub(super) port: u16,
    pub(super) sslmode: SslMode,
    pub(super) writer_vip: Option<IpAddr>,
    pub(super) writer: Writer,
    pub(super) members: Vec<Managed>,
    pub(super) controllers: BTreeMap<NodeName, Address>,
    pub(super) fences: Vec<FenceDevice>,
    pub(super) fence_timeout: Duration,
}

/// What turns a managed node off from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceDevice {
    pub(super) name: NodeName,
    pub(super) node: NodeName,
    pub(super) level: u32,
    pub(super) agent: PathBuf,
    pub(super) options: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, PathBuf>,
}

impl FenceDevice {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// The node that it turns off.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// Devices of one level turn the node off together; the lowest is tried first.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// The executable that asks it.
    #[must_use]
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// What it is told.
    #[must_use]
    pub const fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// What it is told that stands in files.
    #[must_use]
    pub const fn secrets(&self) -> &BTreeMap<String, PathBuf> {
        &self.secrets
    }
}

/// Which of the voters a commit waits for (PostgreSQL documentation, `synchronous_standby_names`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// `ANY k`: whichever are first to flush.
    Any,
    /// `FIRST k`: the first of them by priority.
    First,
}

impl Pick {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Any, Self::First];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::First => "first",
        }
    }
}

/// Who has the writer VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The primary's agent, on the interface in whose subnet it lies.
    Agent,
    /// The directors, as a service of one server.
    Balancer,
}

impl Writer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Balancer];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Balancer => "balancer",
        }
    }

    /// What the directors' service for writers is called.
    pub(super) const SERVICE: &str = "writer";
}

/// A managed node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub(super) name: NodeName,
    pub(super) address: IpAddr,
    pub(super) agent: Address,
    pub(super) replication_user: String,
    pub(super) nofailover: bool,
    pub(super) priority: i32,
}

impl Managed {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// The address of its PostgreSQL.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Where its agent listens.
    #[must_use]
    pub const fn agent(&self) -> &Address {
        &self.agent
    }

    /// The role that it streams as, and no other node.
    #[must_use]
    pub fn replication_user(&self) -> &str {
        &self.replication_user
    }

    /// As it joins the cluster.
    #[must_use]
    pub const fn member(&self) -> Member {
        Member { confirmed: false, nofailover: self.nofailover, priority: self.priority }
    }
}

impl Failover {
    /// What turns nodes off from outside.
    #[must_use]
    pub fn fences(&self) -> &[FenceDevice] {
        &self.fences
    }

    /// How long a fence device may take for one answer.
    #[must_use]
    pub const fn fence_timeout(&self) -> Duration {
        self.fence_timeout
    }

    /// What a commit waits for, in a cluster that is founded by this configuration.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Which of the voters.
    #[must_use]
    pub const fn pick(&self) -> Pick {
        self.pick
    }

    /// The port of PostgreSQL on every managed node.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What protects replication between them.
    #[must_use]
    pub const fn sslmode(&self) -> SslMode {
        self.sslmode
    }

    /// The address that the primary's agent puts on its node.
    #[must_use]
    pub const fn writer_vip(&self) -> Option<IpAddr> {
        match self.writer {
            Writer::Agent => self.writer_vip,
            Writer::Balancer => None,
        }
    }

    /// The address that every managed node has on `lo`, for the directors to send writers to it.
    #[must_use]
    pub const fn balanced_vip(&self) -> Option<IpAddr> {
        match self.writer {
            Writer::Agent => None,
            Writer::Balancer => self.writer_vip,
        }
    }

    /// The directors' service for writers, where they have one.
    pub(super) fn writer_service(&self, name: NodeName) -> Option<Service> {
        Some(Service {
            name,
            vip: self.balanced_vip()?,
            port: self.port,
            scheduler: Scheduler::Maglev,
            discovery: Discovery::Writer,
            default_weight: Weight::ONE,
            allowed_clients: Vec::new(),
            syn_limit: None,
            lag: LagLimits::default(),
            auto_weight: AutoWeight::default(),
            slow_start: Duration::ZERO,
            probe: Probe::Syn,
            fallback_to_primary: false,
        })
    }

    /// Where the primary may be: every managed node is asked.
    pub(super) fn primary(&self) -> Primary {
        let host = |member: &Managed| SocketAddr::new(member.address, self.port);
        Primary { hosts: self.members.iter().map(host).collect() }
    }

    /// The managed nodes, at least one, in the order of the file.
    #[must_use]
    pub fn members(&self) -> &[Managed] {
        &self.members
    }

    /// A managed node.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<&Managed> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// The controllers, by name.
    #[must_use]
    pub const fn controllers(&self) -> &BTreeMap<NodeName, Address> {
        &self.controllers
    }

    /// Everybody else that a process exchanges messages with.
    #[must_use]
    pub fn peers_of(&self, own: &NodeName) -> BTreeMap<NodeName, Address> {
        let agents = self.members.iter().map(|member| (&member.name, &member.agent));
        let all = agents.chain(&self.controllers).filter(|(name, _)| *name != own);
        all.map(|(name, address)| (name.clone(), address.clone())).collect()
    }

    /// A mode that no commit could meet.
    pub(super) fn never_acknowledges(&self) -> Option<Remark> {
        let others = self.members.len() - 1;
        match self.mode {
            Mode::Strict { quorum } if quorum > others => {
                Some(Remark::StrictBeyondNodes { quorum, others })
            }
            Mode::Strict { .. } | Mode::Sync { .. } | Mode::Async { .. } => None,
        }
    }

    /// The names of the controllers.
    #[must_use]
    pub fn controller_names(&self) -> BTreeSet<NodeName> {
        self.controllers.keys().cloned().collect()
    }
}

/// This node as one that an agent manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub(super) node: NodeName,
    pub(super) data: PathBuf,
    pub(super) bin: PathBuf,
    pub(super) user: String,
    pub(super) config_file: PathBuf,
    pub(super) role: String,
    pub(super) passfile: Option<PathBuf>,
    pub(super) runtime: PathBuf,
    pub(super) state: PathBuf,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) local_clients: bool,
    pub(super) guardian: bool,
    pub(super) restarts: u32,
    pub(super) hand_over: bool,
    pub(super) write_timeout: Duration,
}

impl Agent {
    /// The name of this node, one of [`Failover::members`].
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// PostgreSQL's data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where PostgreSQL's programs are.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The user of the operating system that PostgreSQL runs as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The role that the agent logs in as, over PostgreSQL's Unix socket.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The operator's `postgresql.conf`.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config_file
    }

    /// The file with the passwords of replication.
    #[must_use]
    pub fn passfile(&self) -> Option<&Path> {
        self.passfile.as_deref()
    }

    /// What lives as long as the machine runs: sockets.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// What outlives a restart of the machine.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The cgroup below which PostgreSQL is started; `None`: that of the agent.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }

    /// Whether others than the agent may use PostgreSQL's Unix socket, which no lease gate guards.
    #[must_use]
    pub const fn local_clients(&self) -> bool {
        self.local_clients
    }

    /// Whether the agent refuses to be without a guardian.
    #[must_use]
    pub const fn guardian(&self) -> bool {
        self.guardian
    }

    /// How often PostgreSQL is restarted after a crash in one term before another node takes over.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Whether another node takes over after a crash, where one can at once and without less safety.
    #[must_use]
    pub const fn hand_over(&self) -> bool {
        self.hand_over
    }

    /// How long a write to the disk may take before another node takes over.
    #[must_use]
    pub const fn write_timeout(&self) -> Duration {
        self.write_timeout
    }
}
