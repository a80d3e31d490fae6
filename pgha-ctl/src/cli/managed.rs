//! The managed nodes in `pgha status`: what the record, the controller and each agent say, side by side. Each is
//! asked by itself, so that what is left is told when the primary, the store or the controller is gone.

#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use pgha_machine::failover::record::{Lease, Record};
use pgha_machine::{Lsn, NodeName, Timeline};
use serde::{Deserialize, Serialize};

use super::client::{self, Controller, Options};
use crate::agent::failures::Failed;
use crate::agent::status::{AgentStatus, RoleStatus};
use crate::config::{Config, Failover};
use crate::controller::failover::{Chapter, FailoverStatus, History};
use crate::rpc::credentials::Credentials;

pub(super) use text::text;

/// How long an agent may take to answer before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// The managed nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Managed {
    /// Who has told the record that is shown: a controller or an agent, whichever has read the newest.
    pub(super) told_by: Option<String>,
    /// The record; missing where nobody tells it.
    pub(super) record: Option<Record>,
    /// What the controller sees of it.
    pub(super) failover: Option<FailoverStatus>,
    /// Why the controller tells nothing.
    pub(super) failover_error: Option<String>,
    /// The present term, as the history has it.
    pub(super) term: Option<Chapter>,
    /// So many nodes have to have stopped, of each set of voters, to prove what was acknowledged.
    pub(super) votes: Vec<Votes>,
    /// The address of the writers.
    pub(super) writer_vip: Option<IpAddr>,
    /// Whose agents say that they have it.
    pub(super) writer_vip_at: Vec<NodeName>,
    /// Every node.
    pub(super) nodes: Vec<ManagedNode>,
}

/// A set of voters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Votes {
    pub(super) nodes: Vec<NodeName>,
    /// A commit waits for so many.
    pub(super) quorum: usize,
    /// So many have to have stopped.
    pub(super) needed: usize,
    /// So many have.
    pub(super) frozen: usize,
}

/// A managed node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManagedNode {
    pub(super) node: NodeName,
    /// `PRI`, `HS:sync`, `HS:quorum`, `HS:potential`, `HS:async`, `HS:alone` or `STOP`; `unknown` where its agent
    /// does not answer.
    pub(super) role: String,
    /// `LATEST` of the primary, `STREAMING` with how it counts, `FROZEN`, `DISCONNECT` or `unknown`.
    pub(super) data: String,
    pub(super) timeline: Option<Timeline>,
    pub(super) received: Option<Lsn>,
    pub(super) flushed: Option<Lsn>,
    pub(super) replayed: Option<Lsn>,
    /// What it has not replayed of the primary's log.
    pub(super) lag_bytes: Option<u64>,
    pub(super) lag_ms: Option<u64>,
    /// Why it does not become the primary now, as the controller sees it; missing where it may, or nobody knows.
    pub(super) unfit: Option<String>,
    /// Whether that is known.
    pub(super) judged: bool,
    /// What failed there.
    pub(super) failures: Failed,
    /// Why its agent tells nothing, and when it was heard by the controller last, in milliseconds.
    pub(super) error: Option<String>,
    pub(super) heard_ms: Option<u64>,
}

/// Asks everybody, where the configuration here says that nodes are managed; `None` where not. With `--to` there need
/// be none here: then only the controller tells.
pub(super) async fn gather(options: &Options, controller: &Controller) -> Option<Managed> {
    if options.to.is_some() {
        let failover = client::failover(controller).await.ok()?;
        let history = client::history(controller).await.ok();
        return Some(Managed::of(Ok(failover), history.as_ref(), &BTreeMap::new(), None));
    }
    let config = Config::load(&options.config).ok()?;
    let members = config.failover()?;
    let (failover, history, agents) = tokio::join!(
        client::failover(controller),
        client::history(controller),
        ask_agents(&config, members)
    );
    let failover = failover.map_err(|error| error.to_string());
    Some(Managed::of(failover, history.ok().as_ref(), &agents, members.writer_vip()))
}

/// Asks every agent, side by side.
async fn ask_agents(
    config: &Config,
    failover: &Failover,
) -> BTreeMap<NodeName, Result<AgentStatus, String>> {
    let credentials = Credentials::load(config.api().tls());
    let asked = failover.members().iter().map(|member| {
        let credentials = credentials.as_ref();
        async move {
            let ask = async {
                let credentials = credentials.map_err(ToString::to_string)?.clone();
                let agent = Controller::There(member.agent().clone(), Box::new(credentials));
                client::agent(&agent).await.map_err(|error| error.to_string())
            };
            let told = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| {
                Err(format!("{} gave no answer within {} s", member.agent(), PATIENCE.as_secs()))
            });
            (member.name().clone(), told)
        }
    });
    join_all(asked).await.into_iter().collect()
}

impl Managed {
    fn of(
        failover: Result<FailoverStatus, String>,
        history: Option<&History>,
        agents: &BTreeMap<NodeName, Result<AgentStatus, String>>,
        writer_vip: Option<IpAddr>,
    ) -> Self {
        let (failover, failover_error) = match failover {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error)),
        };
        let (told_by, record) = newest(failover.as_ref(), agents).unzip();
        let has_vip = |(node, told): (&NodeName, &Result<AgentStatus, String>)| {
            let has = told.as_ref().is_ok_and(|status| status.writer_vip.is_some());
            has.then(|| node.clone())
        };
        let term = record.as_ref().and_then(|record: &Record| {
            let terms = history.map(|history| &history.terms[..]).unwrap_or_default();
            terms.iter().find(|chapter| chapter.epoch == record.epoch).cloned()
        });
        let nodes = nodes(record.as_ref(), failover.as_ref(), agents);
        Self {
            told_by,
            votes: record
                .as_ref()
                .map(|record| votes(record, failover.as_ref()))
                .unwrap_or_default(),
            writer_vip,
            writer_vip_at: agents.iter().filter_map(has_vip).collect(),
            term,
            nodes,
            record,
            failover,
            failover_error,
        }
    }
}

/// The newest record that anybody tells, and who.
fn newest(
    failover: Option<&FailoverStatus>,
    agents: &BTreeMap<NodeName, Result<AgentStatus, String>>,
) -> Option<(String, Record)> {
    let of_controller = failover.and_then(|status| {
        Some((format!("controller {}", status.controller), status.record.clone()?))
    });
    let of_agents = agents.iter().filter_map(|(node, told)| {
        Some((format!("the agent of {node}"), told.as_ref().ok()?.record.clone()?))
    });
    let age = |record: &Record| (record.epoch, record.freezes, record.lease.renewal());
    // The controller's where it is as new as any.
    of_agents.chain(of_controller).max_by_key(|(_, record)| age(record))
}

fn votes(record: &Record, failover: Option<&FailoverStatus>) -> Vec<Votes> {
    let frozen = |node: &&NodeName| {
        let process = failover.and_then(|status| status.processes.get(*node));
        process.is_some_and(|process| process.frozen)
    };
    let sets = record.voters.sets.iter().map(|set| Votes {
        nodes: set.nodes.iter().cloned().collect(),
        quorum: set.quorum,
        needed: if set.is_open() { 0 } else { set.nodes.len() - set.quorum + 1 },
        frozen: set.nodes.iter().filter(frozen).count(),
    });
    sets.collect()
}

fn nodes(
    record: Option<&Record>,
    failover: Option<&FailoverStatus>,
    agents: &BTreeMap<NodeName, Result<AgentStatus, String>>,
) -> Vec<ManagedNode> {
    let members = record.into_iter().flat_map(|record| record.members.keys());
    let mut names: Vec<_> = agents.keys().chain(members).collect();
    names.sort();
    names.dedup();
    let holder = record.and_then(Record::holder);
    let of = |node: &NodeName| agents.get(node).and_then(|told| told.as_ref().ok());
    let primary = holder.and_then(of).filter(|status| status.role == RoleStatus::Primary);
    names.into_iter().map(|node| managed(node, of(node), primary, failover, agents)).collect()
}

fn managed(
    node: &NodeName,
    agent: Option<&AgentStatus>,
    primary: Option<&AgentStatus>,
    failover: Option<&FailoverStatus>,
    agents: &BTreeMap<NodeName, Result<AgentStatus, String>>,
) -> ManagedNode {
    let facts = agent.and_then(|agent| agent.facts.as_ref()).map(|(_, facts)| facts);
    let sent = primary.and_then(|primary| primary.facts.as_ref()).map(|(_, facts)| facts);
    let walsender = sent.and_then(|facts| {
        facts.walsenders.iter().find(|sender| sender.name.eq_ignore_ascii_case(node.as_str()))
    });
    let end = sent.and_then(|facts| facts.flushed);
    let behind = end.zip(facts.and_then(|facts| facts.replayed));
    let process = failover.and_then(|status| status.processes.get(node));
    let sync = walsender.map(|sender| sender.sync_state.as_str());
    let streams = facts.is_some_and(|facts| facts.receiver.as_deref() == Some("streaming"));
    let role = match agent.map(|agent| agent.role) {
        None => "unknown".to_owned(),
        Some(RoleStatus::Primary | RoleStatus::Restarted) => "PRI".to_owned(),
        Some(RoleStatus::Down) => "STOP".to_owned(),
        Some(RoleStatus::Standby | RoleStatus::Frozen) => match sync {
            Some(sync) => format!("HS:{sync}"),
            None if streams => "HS:async".to_owned(),
            None => "HS:alone".to_owned(),
        },
    };
    let data = match agent.map(|agent| agent.role) {
        None => "unknown".to_owned(),
        Some(RoleStatus::Primary | RoleStatus::Restarted) => "LATEST".to_owned(),
        Some(RoleStatus::Frozen) => "FROZEN".to_owned(),
        Some(RoleStatus::Standby) if streams => {
            let sync = sync.map_or_else(|| "ASYNC".to_owned(), str::to_uppercase);
            format!("STREAMING|{sync}")
        }
        Some(RoleStatus::Standby | RoleStatus::Down) => "DISCONNECT".to_owned(),
    };
    ManagedNode {
        node: node.clone(),
        role,
        data,
        timeline: agent.and_then(|agent| agent.wal.as_ref()).map(|wal| wal.end.timeline),
        received: facts.and_then(|facts| facts.received),
        flushed: facts.and_then(|facts| facts.flushed),
        replayed: facts.and_then(|facts| facts.replayed),
        lag_bytes: behind.map(|(end, replayed)| replayed.behind(end)),
        lag_ms: walsender.and_then(|sender| sender.lag_ms),
        unfit: process.and_then(|process| process.unfit.clone()),
        judged: process.is_some(),
        failures: agent.map(|agent| agent.failures.clone()).unwrap_or_default(),
        error: agents.get(node).and_then(|told| told.as_ref().err().cloned()),
        heard_ms: process.and_then(|process| process.heard_ms),
    }
}

/// Who holds the lease, or held it last.
pub(super) fn lease(record: &Record) -> (&NodeName, bool) {
    match &record.lease {
        Lease::Held { by, .. } => (by, true),
        Lease::Released { by, .. } => (by, false),
    }
}
