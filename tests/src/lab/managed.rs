//! Managed nodes: three real PostgreSQL under three agents, on a real etcd or a file of the controller.
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail, ensure};
use pgha_ctl::agent::status::RoleStatus;
use pgha_machine::Epoch;

use super::agent::{configure, prepare};
use super::etcd::{Members, program};
use super::observers::Observers;
use super::plan::READER_VIP;
use super::{Agent, AgentOptions, Director, Disk, Lab, SOON, wait_for};
use crate::skip::skipped;

const NODES: [&str; 3] = ["db1", "db2", "db3"];
/// A VIP that is nobody's.
const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const STORE: [&str; 3] = ["etcd1", "etcd2", "etcd3"];

/// A managed cluster. The agents before the lab: they end first.
#[derive(Debug)]
pub struct Managed {
    /// In the order of their names.
    pub agents: Vec<Agent>,
    /// Runs, where there is one.
    pub controller: Option<Director>,
    /// The controller has the writer VIP.
    pub(super) balanced: bool,
    /// They look on; [`Managed::finish`] has their word.
    pub(super) observers: Observers,
    /// An etcd of three members, or of none.
    pub store: Members,
    /// Where the record is, if not in that.
    pub disk: Option<Disk>,
    /// What they are in.
    pub lab: Lab,
}

impl Managed {
    /// Three nodes whose agents run, and nobody is a primary; nothing where there is no etcd: then the test of
    /// that name is skipped.
    ///
    /// # Errors
    /// When anything of it cannot be started.
    pub fn prepared(test: &str, options: &AgentOptions) -> Result<Option<Self>> {
        let etcd = if options.local { None } else { program() };
        if etcd.is_none() && !options.local {
            skipped(
                test,
                "there is no etcd; `cargo xtask setup` installs Debian's where it can be had",
            )?;
            return Ok(None);
        }
        let lab = if options.durable { Lab::on_disk()? } else { Lab::new()? };
        let clients = NODES.into_iter().chain(options.controller).chain(options.beside);
        let clients: Vec<_> = clients.collect();
        let (store, disk) = match etcd {
            Some(program) => (Members::start(&lab, &program, &STORE, &clients)?, None),
            None => (Members::none(&lab, &clients)?, Some(lab.disk()?)),
        };
        let agents = prepare(&lab, &NODES, &store, options)?;
        let observers = Observers::begin(&lab)?;
        if disk.is_none() {
            store.leader(agents[0].host())?;
        }
        let controller = options.controller.map(|host| lab.director(host)).transpose()?;
        if let Some(controller) = &controller {
            configure(controller, &lab, &NODES, &store, options)?;
        }
        agents.iter().try_for_each(Agent::start)?;
        for agent in &agents {
            let status = agent.wait_role(RoleStatus::Standby)?;
            ensure!(status.holder.is_none(), "{status:?}");
            agent.wait_log()?;
        }
        let balanced = options.balanced;
        let mut managed = Self { agents, controller, balanced, observers, store, disk, lab };
        if managed.controller.is_some() {
            managed.start_controller()?;
            managed.observers.read(&managed.lab)?;
        }
        Ok(Some(managed))
    }

    /// Starts the controller, and waits until it answers.
    ///
    /// # Errors
    /// When there is none, or it ends instead.
    pub fn start_controller(&self) -> Result<()> {
        let controller = self.controller.as_ref().context("a controller")?;
        controller.start_until(|| Ok(controller.status().is_ok()))
    }

    /// The same after `pgha init --adopt`: db1 is the primary, the others stream from it.
    ///
    /// # Errors
    /// When anything of it cannot be started.
    pub fn up(test: &str, options: &AgentOptions) -> Result<Option<Self>> {
        let Some(managed) = Self::prepared(test, options)? else { return Ok(None) };
        managed.found()?;
        Ok(Some(managed))
    }

    /// Has db1 be the primary, and the others stream from it.
    ///
    /// # Errors
    /// When they are not.
    pub fn found(&self) -> Result<()> {
        let [db1, others @ ..] = &self.agents[..] else { unreachable!("there are three") };
        db1.pgha(&["init", "--adopt", "--yes"])?.run()?;
        db1.wait_role(RoleStatus::Primary)?;
        others.iter().try_for_each(Agent::wait_streaming)
    }

    /// Starts the controller beside the first, which balances nothing that others do: it has a VIP of its own.
    ///
    /// # Errors
    /// When it cannot be started, or no test said where.
    pub fn start_beside(&self, options: &AgentOptions) -> Result<Director> {
        let beside = self.lab.director(options.beside.context("a host")?)?;
        configure(&beside, &self.lab, &NODES, &self.store, options)?;
        let text = fs::read_to_string(beside.config_path())?;
        beside.write_config(&text.replace(&READER_VIP.to_string(), &OTHER_VIP.to_string()))?;
        beside.start_until(|| Ok(beside.status().is_ok()))?;
        Ok(beside)
    }

    /// The agent of a node.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn agent(&self, name: &str) -> Result<&Agent> {
        self.agents.iter().find(|agent| agent.host().name() == name).context("a node")
    }

    /// Waits until one node is the primary and all know of it, the others stream, and its commits wait for them again.
    ///
    /// # Errors
    /// When that does not come.
    pub fn wait_whole(&self) -> Result<&Agent> {
        let primary = wait_for("one primary that all know of", SOON * 4, || {
            let (primary, record) = self.primary()?;
            for agent in &self.agents {
                // One that is back says what it was until it hears otherwise.
                let epoch = agent.status()?.epoch;
                ensure!(epoch == Some(record.epoch), "{}: {epoch:?}", agent.host().name());
            }
            Ok(Some(primary))
        })?;
        let name = primary.host().name();
        let others = self.agents.iter().filter(|agent| agent.host().name() != name);
        others.into_iter().try_for_each(Agent::wait_streaming)?;
        primary.wait_voters(self.agents.len() - 1)?;
        Ok(primary)
    }

    /// The primary of a later term than that epoch's, where an agent says that there is one.
    ///
    /// # Errors
    /// When no agent answers.
    pub fn primary_after(&self, epoch: Epoch) -> Result<Option<&Agent>> {
        for agent in &self.agents {
            let status = agent.status()?;
            if status.role == RoleStatus::Primary && status.epoch > Some(epoch) {
                return Ok(Some(agent));
            }
        }
        Ok(None)
    }

    /// Waits until a node other than `former` is the primary.
    ///
    /// # Errors
    /// When none is in time; with the logs.
    pub fn wait_successor(&self, former: &str) -> Result<&Agent> {
        let found = wait_for("another primary", SOON * 4, || {
            for agent in self.agents.iter().filter(|agent| agent.host().name() != former) {
                if agent.status()?.role == RoleStatus::Primary {
                    return Ok(Some(agent));
                }
            }
            bail!("nobody is it");
        });
        found.with_context(|| {
            let logs = self
                .agents
                .iter()
                .map(|agent| format!("{}:\n{}", agent.host().name(), agent.tail()));
            let controller =
                self.controller.as_ref().map(|controller| controller.log().unwrap_or_default());
            format!("{}\ncontroller: {controller:?}", logs.collect::<Vec<_>>().join("\n"))
        })
    }
}
