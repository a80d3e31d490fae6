//! `pgha agent`.

use std::path::Path;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::client::{self, Controller};
use super::output::print;
use crate::agent::status::{AddressStatus, AgentStatus};
use crate::config::Config;
use crate::rpc::credentials::Credentials;
use crate::{agent, telemetry};

/// What is done. Without a verb: the agent runs.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say how it is with PostgreSQL on this node, by its agent.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(path: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.verb {
        None => {
            telemetry::init();
            let prepared = agent::prepare(path)?;
            Ok(threads()?.block_on(agent::run(prepared))?)
        }
        Some(Verb::Status { json }) => super::runtime()?.block_on(status(path, *json)),
    }
}

/// Two threads beside the loop: a disk that hangs must not keep a lease from being renewed.
fn threads() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn status(path: &Path, json: bool) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let own =
        config.agent().context("the configuration has no [agent]: this node is not managed")?;
    let member = config.failover().and_then(|failover| failover.member(own.node()));
    let member = member.context("this node is no [[node]] with an agent")?;
    let credentials = Credentials::load(config.api().tls())?;
    let agent = Controller::There(member.agent().clone(), Box::new(credentials));
    print(json, &client::agent(&agent).await?, text)
}

fn text(status: &AgentStatus) -> String {
    let epoch = status.epoch.map_or_else(|| "unknown".to_owned(), |epoch| epoch.to_string());
    let log = match &status.wal {
        Some(wal) => format!("{} of timeline {}", wal.end.lsn, wal.end.timeline),
        None => "unknown".to_owned(),
    };
    let holder = status.holder.as_ref().map_or("nobody", |holder| holder.as_str());
    let mut lines = vec![
        format!("{}: PostgreSQL is {}", status.node, status.role_text),
        format!("record: this node is {}", status.standing),
        format!("epoch: {epoch}, lease: {holder}"),
        format!("log: {log}"),
    ];
    lines.extend(match (&status.failsafe_of, status.store) {
        (Some(primary), _) => Some(format!(
            "store: cannot be reached; {primary} goes on as the primary by what every member grants"
        )),
        (None, Some(false)) => Some("store: cannot be reached".to_owned()),
        (None, Some(true) | None) => None,
    });
    lines.extend(status.writer_vip.map(|vip| format!("writer VIP: {vip} is here")));
    let AddressStatus { rivals, readers, troubles } = &status.addresses;
    let rivals = rivals.iter().map(|rival| format!("{} {} it, too", rival.mac, rival.does));
    lines.extend(rivals.map(|rival| format!("writer VIP: {rival}; see the log")));
    if !readers.is_empty() {
        let readers: Vec<_> = readers.iter().map(ToString::to_string).collect();
        lines.push(format!("reader VIPs: {}", readers.join(", ")));
    }
    lines.extend(troubles.iter().map(|trouble| format!("trouble: {trouble}")));
    lines.extend(status.rebuild.iter().map(|text| format!("rebuild: {text}")));
    lines.extend(status.faults.iter().map(|fault| format!("unfit to be the primary: {fault}")));
    lines.join("\n")
}
