//! Managed nodes: three real PostgreSQL under three agents, on a real etcd.
use anyhow::{Context as _, Result, ensure};
use pgha_ctl::agent::status::RoleStatus;
use pgha_tests::lab::agent::{configure, prepare};
use pgha_tests::lab::etcd::{Members, program};
use pgha_tests::lab::{Agent, AgentOptions, Director, Lab};
use pgha_tests::skip::skipped;

const NODES: [&str; 3] = ["db1", "db2", "db3"];
const STORE: [&str; 3] = ["etcd1", "etcd2", "etcd3"];

/// A managed cluster. The agents before the lab: they end first.
pub(crate) struct Managed {
    pub(crate) agents: Vec<Agent>,
    /// Runs, where there is one.
    pub(crate) controller: Option<Director>,
    pub(crate) store: Members,
    pub(crate) lab: Lab,
}

impl Managed {
    /// Three nodes whose agents run, and nobody is a primary; nothing where there is no etcd.
    pub(crate) fn prepared(test: &str, options: &AgentOptions) -> Result<Option<Self>> {
        let Some(program) = program() else {
            skipped(
                test,
                "there is no etcd; `cargo xtask setup` installs Debian's where it can be had",
            )?;
            return Ok(None);
        };
        let lab = Lab::new()?;
        let clients: Vec<_> = NODES.into_iter().chain(options.controller).collect();
        let store = Members::start(&lab, &program, &STORE, &clients)?;
        let agents = prepare(&lab, &NODES, &store, options)?;
        store.leader(agents[0].host())?;
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
        if let Some(controller) = &controller {
            controller.start_until(|| Ok(controller.status().is_ok()))?;
        }
        Ok(Some(Self { agents, controller, store, lab }))
    }

    /// The same after `pgha init --adopt`: db1 is the primary, the others stream from it.
    pub(crate) fn up(test: &str, options: &AgentOptions) -> Result<Option<Self>> {
        let Some(managed) = Self::prepared(test, options)? else { return Ok(None) };
        managed.found()?;
        Ok(Some(managed))
    }

    pub(crate) fn found(&self) -> Result<()> {
        let [db1, others @ ..] = &self.agents[..] else { unreachable!("there are three") };
        db1.pgha(&["init", "--adopt", "--yes"])?.run()?;
        db1.wait_role(RoleStatus::Primary)?;
        others.iter().try_for_each(Agent::wait_streaming)
    }

    pub(crate) fn agent(&self, name: &str) -> Result<&Agent> {
        self.agents.iter().find(|agent| agent.host().name() == name).context("a node")
    }
}

/// Prepared nodes become a cluster by one order, which says first what it would do.
#[test]
fn netns_agent_init_adopts_prepared_nodes() -> Result<()> {
    let options = AgentOptions::default();
    let Some(managed) = Managed::prepared("netns_agent_init_adopts_prepared_nodes", &options)?
    else {
        return Ok(());
    };
    let db1 = managed.agent("db1")?;
    let dry = db1.pgha(&["init", "--adopt"])?.run()?;
    ensure!(
        dry.contains("db1 becomes the primary") && dry.contains("nothing is done yet"),
        "{dry}"
    );
    ensure!(db1.status()?.record.is_none(), "a dry run founds nothing");
    managed.found()?;
    db1.psql("insert into acknowledged values (1, 'db1')")?;
    let again = db1.pgha(&["init", "--adopt", "--yes"])?.output()?;
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && error.contains("was founded before"), "{error}");
    Ok(())
}
