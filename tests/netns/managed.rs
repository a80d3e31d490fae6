//! PostgreSQL as the agent runs it, on hosts of the lab.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use pgha_ctl::postgres::server::config::{
    Deadlines, LocalLogin, Method, OWN_FILES, Peer, Upstream,
};
use pgha_ctl::postgres::server::{BeforeStart, Server, ServerConfig, ServerError};
use pgha_machine::{NodeName, Position};
use pgha_tests::lab::postgres::{PORT, bin_directory};
use pgha_tests::lab::{Host, Lab, Postgres, PostgresOptions, SOON, wait_until};
use tokio::runtime::{Builder, Runtime};

/// The hosts of a managed cluster, each with its name as its replication role.
const NODES: [&str; 3] = ["db1", "db2", "db3"];

pub(crate) fn node(name: &str) -> NodeName {
    name.parse().expect("the name of a host is one of a node")
}

/// A start as it was announced: its number, its cgroup, and whether it was to be the primary.
pub(crate) type Announced = (u64, PathBuf, bool);

/// PostgreSQL on one host, run by the server under test. It ends with this.
pub(crate) struct Managed {
    pub(crate) server: Server,
    /// The same server in the hands of the lab.
    pub(crate) postgres: Postgres,
    /// What was announced before each start.
    pub(crate) announced: Arc<Mutex<Vec<Announced>>>,
    runtime: Option<Runtime>,
}

impl Managed {
    /// Takes over a server of the lab, which is stopped first.
    pub(crate) fn over(lab: &Lab, postgres: Postgres) -> Result<Self> {
        if postgres.is_running()? {
            postgres.stop()?;
        }
        let config = config(lab, &postgres)?;
        let announced: Arc<Mutex<Vec<_>>> = Arc::default();
        let server = server(&config, &announced)?;
        let runtime = postgres
            .host()
            .inside(|| Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?))?;
        Ok(Self { server, postgres, announced, runtime: Some(runtime) })
    }

    /// Has the server do something, on its host.
    pub(crate) fn run<T: Send, F>(&self, command: impl FnOnce(Server) -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, ServerError>> + Send,
    {
        self.attempt(command)?.context(self.host().name().to_owned())
    }

    /// The same, where it may be refused.
    pub(crate) fn attempt<T: Send, F>(
        &self,
        command: impl FnOnce(Server) -> F + Send,
    ) -> Result<Result<T, ServerError>>
    where
        F: Future<Output = Result<T, ServerError>> + Send,
    {
        let runtime = self.runtime.as_ref().context("it has ended")?;
        self.host().inside(|| {
            // System V memory of a server that is killed goes with the last process that sees it.
            unshare(CloneFlags::CLONE_NEWIPC)?;
            Ok(runtime.block_on(command(self.server.clone())))
        })
    }

    /// Another agent in the place of the one that ran it until now, which is gone without a word.
    pub(crate) fn restarted(mut self) -> Result<Self> {
        let announced: Arc<Mutex<Vec<_>>> = Arc::default();
        self.server = server(self.server.config(), &announced)?;
        self.announced = announced;
        Ok(self)
    }

    /// The same server stopped, and configured otherwise.
    pub(crate) fn reconfigured(mut self, change: impl FnOnce(&mut ServerConfig)) -> Result<Self> {
        self.run(|server| async move { server.kill().await })?;
        let mut config = self.server.config().clone();
        change(&mut config);
        self.server = server(&config, &self.announced)?;
        Ok(self)
    }

    pub(crate) fn host(&self) -> &Host {
        self.postgres.host()
    }

    pub(crate) fn psql(&self, sql: &str) -> Result<String> {
        self.postgres.psql(sql)
    }

    /// Follows another, and streams.
    pub(crate) fn stream_from(&self, upstream: &str) -> Result<()> {
        let upstream = node(upstream);
        self.run(|server| async move { server.follow(&upstream).await })?;
        self.postgres.wait_streaming()
    }

    /// Where its log ends now that nothing is received.
    pub(crate) fn stop_streaming(&self) -> Result<Position> {
        let wal = self.run(|server| async move { server.stop_streaming().await })?;
        Ok(wal.context("the end of the log")?.end)
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let killed = self.attempt(|server| async move { server.kill().await });
        if !matches!(killed, Ok(Ok(()))) {
            eprintln!("{}: {killed:?}", self.host().name());
        }
        // Its threads are in no hurry, and the namespace is theirs as long as they are there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = std::fs::remove_dir(self.server.cgroups());
    }
}

fn server(config: &ServerConfig, announced: &Arc<Mutex<Vec<Announced>>>) -> Result<Server> {
    let announced = Arc::clone(announced);
    let before: BeforeStart = Arc::new(move |start| {
        let start = (start.number, start.cgroup.to_owned(), start.as_primary);
        announced.lock().unwrap_or_else(PoisonError::into_inner).push(start);
        Ok(())
    });
    Ok(Server::new(config.clone(), before)?)
}

fn config(lab: &Lab, postgres: &Postgres) -> Result<ServerConfig> {
    let host = postgres.host();
    let peers = lab.members().into_iter().filter(|member| NODES.contains(&member.name()));
    let peers = peers.filter(|member| member.name() != host.name()).map(|member| {
        let peer =
            Peer { host: member.address().to_string(), port: PORT, role: member.name().to_owned() };
        (node(member.name()), peer)
    });
    let upstream = |role: &str, parameters: &[(&str, &str)]| Upstream {
        role: role.to_owned(),
        parameters: parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    };
    Ok(ServerConfig {
        cluster: format!("lab-{}-{}", lab.id(), host.name()),
        node: node(host.name()),
        programs: bin_directory()?,
        data: postgres.data(),
        config_file: postgres.data().join("postgresql.conf"),
        user: "postgres".to_owned(),
        port: PORT,
        state: postgres.home().join("agent"),
        runtime: postgres.home().join("runtime"),
        log: host.log_path("postgres"),
        cgroup: None,
        // So that the lab's own tools find it.
        local_sockets: vec![postgres.home()],
        login: LocalLogin {
            role: "root".to_owned(),
            database: "postgres".to_owned(),
            password: None,
        },
        peers: peers.collect::<BTreeMap<_, _>>(),
        replication: upstream(host.name(), &[("connect_timeout", "5")]),
        rewind: upstream("postgres", &[("dbname", "postgres")]),
        method: Method::Any,
        own_files: OWN_FILES.map(str::to_owned).to_vec(),
        deadlines: Deadlines {
            start: SOON,
            answer: SOON,
            kill: SOON,
            promote: SOON,
            log_end: SOON,
            ..Deadlines::default()
        },
    })
}

/// A primary and its standbys, with a role for each node and one for the agent; all of them are run by servers
/// under test, and nobody streams from anybody.
pub(crate) fn cluster(lab: &Lab, names: &[&str]) -> Result<Vec<Managed>> {
    cluster_with(lab, names, &PostgresOptions::default())
}

/// The same with settings that all of them have.
pub(crate) fn cluster_with(
    lab: &Lab,
    names: &[&str],
    options: &PostgresOptions,
) -> Result<Vec<Managed>> {
    lab.hosts(names)?;
    let (first, others) = names.split_first().context("a node")?;
    let primary = lab.primary_with(first, options)?;
    primary.psql("create role root login in role pg_monitor")?;
    for name in NODES {
        primary.psql(&format!("create role {name} login replication"))?;
    }
    let standbys =
        others.iter().map(|name| lab.standby_with(name, first, &PostgresOptions::default()));
    let standbys = standbys.collect::<Result<Vec<_>>>()?;
    for standby in &standbys {
        let roles = "select count(*) from pg_roles where rolname = any ('{root,db1,db2,db3}')";
        wait_until("the roles on a standby", SOON, || Ok(standby.psql(roles)? == "4"))?;
    }
    std::iter::once(primary)
        .chain(standbys)
        .map(|postgres| {
            let managed = Managed::over(lab, postgres)?;
            managed.run(|server| async move { server.start().await })?;
            Ok(managed)
        })
        .collect()
}
