//! `pgha init --adopt`: the first epoch over nodes that are prepared.

mod plan;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use pgha_machine::NodeName;
use pgha_machine::failover::Written;
use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::Record;
use serde::Serialize;

use super::client::{self, ClientError, Controller};
use super::output::print;
use crate::config::{Config, Failover};
use crate::rpc::credentials::{Credentials, CredentialsError};
use crate::store::Configured;
use crate::store::ledger::{Ledger, LedgerError};
use plan::{Look, Objection, Plan};

/// Number of the form of what `--json` prints.
const SCHEMA: u32 = 1;
/// How often every process says that it lives, and how long without such a word makes a suspicion.
const HEARTBEAT: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Take over the data directories that the agents have, as they are.
    #[arg(long, required = true)]
    adopt: bool,
    /// The node that becomes the primary; the one that was it when missing.
    #[arg(long, value_name = "NODE")]
    primary: Option<NodeName>,
    /// Do it. Without this it is only said what would be done.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// No cluster is founded.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    #[error(
        "no [[node]] has an agent; give each managed node its agent's host and port, and start that"
    )]
    NothingManaged,
    #[error("the cluster was founded before: {holder} is in epoch {epoch}; nothing is changed")]
    Founded { holder: String, epoch: u64 },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Objections(Vec<Objection>),
    #[error(transparent)]
    Store(#[from] LedgerError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("somebody else has founded the cluster meanwhile; look at it")]
    Forestalled,
    #[error("it is not known whether the cluster is founded ({0}); run this again, which says so")]
    Unknown(String),
}

/// What is done.
#[derive(Debug, Serialize)]
struct Founding {
    schema: u32,
    done: bool,
    #[serde(flatten)]
    plan: Plan,
}

pub(super) async fn run(path: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    config.check_files(path)?;
    let failover = config.failover().ok_or(InitError::NothingManaged)?;
    let ledger = ledger(&config, failover);
    let reading = ledger.read().await.map_err(InitError::from)?;
    if let Some(record) = &reading.record {
        let holder = record.lease.node().to_string();
        return Err(InitError::Founded { holder, epoch: record.epoch.get() }.into());
    }
    let looks = look(&config, failover).await?;
    let (plan, record) = found(&config, failover, arguments.primary, &looks)?;
    if arguments.yes {
        match ledger.put(reading.mark, &record).await {
            (Written::Done(_), _) => {}
            (Written::Conflict, _) => return Err(InitError::Forestalled.into()),
            (Written::Failed, Some(error)) => return Err(InitError::Store(error).into()),
            (Written::Failed | Written::Unknown, error) => {
                let error = error.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
                return Err(InitError::Unknown(error).into());
            }
        }
    }
    print(arguments.json, &Founding { schema: SCHEMA, done: arguments.yes, plan }, text)
}

fn found(
    config: &Config,
    failover: &Failover,
    primary: Option<NodeName>,
    looks: &[Look],
) -> Result<(Plan, Record), InitError> {
    let pace = Pace { lease: config.lease(), heartbeat: HEARTBEAT, silence: SILENCE };
    let members = failover.members().iter();
    let members = members.map(|member| (member.name().clone(), member.member())).collect();
    plan::found(looks, primary, &members, failover.mode(), pace).map_err(InitError::Objections)
}

fn ledger(config: &Config, failover: &Failover) -> Ledger<Configured> {
    let controller = failover.controllers().values().next();
    let tls = config.api().tls();
    let store = Configured::from_outside(config.store(), config.cluster(), controller, tls);
    Ledger::new(store, config.lease().longest_request().max(Duration::from_secs(5)))
}

/// Asks every agent, side by side.
async fn look(config: &Config, failover: &Failover) -> Result<Vec<Look>, InitError> {
    let credentials = Credentials::load(config.api().tls())?;
    let asked = failover.members().iter().map(|member| {
        let agent = Controller::There(member.agent().clone(), Box::new(credentials.clone()));
        async move {
            let status: Result<_, ClientError> = client::agent(&agent).await;
            let status = status.map_err(|error| error.to_string());
            Look { node: member.name().clone(), status }
        }
    });
    Ok(join_all(asked).await)
}

fn text(founding: &Founding) -> String {
    let plan = &founding.plan;
    let follow =
        plan.followers.iter().map(|node| format!("{node} streams from {}\n", plan.primary));
    let end = if founding.done {
        "done: the agents go on by themselves (pgha status)"
    } else {
        "nothing is done yet; to do it, run this again with --yes"
    };
    format!(
        "{} becomes the primary, from {} of timeline {}, {}\n{}{end}",
        plan.primary,
        plan.from.lsn,
        plan.from.timeline,
        plan.why,
        follow.collect::<String>(),
    )
}
