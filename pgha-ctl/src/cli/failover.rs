//! `pgha failover` and `pgha force-primary`: another node is to be the primary, and what comes of that.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use clap::Args;
use pgha_machine::failover::record::{Record, Term};
use pgha_machine::{Epoch, NodeName, Timeline};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::client::{self, Controller, Options};
use super::exit::Exit;
use super::output::{print, put};
use super::status::is_passing;
use super::{argument, words};
use crate::controller::failover::tale;
use crate::controller::failover::{
    FailoverReply, FailoverRequest, FailoverStatus, SCHEMA, StageStatus,
};

/// How often it is looked how far it has come.
const LOOK: Duration = Duration::from_millis(100);

/// Who shall be the primary.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node that is to be the primary; the best of the standbys when missing.
    node: Option<NodeName>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Who shall be the primary, whatever it lacks.
#[derive(Debug, Args)]
pub(super) struct ForceArguments {
    /// The node that is to be the primary.
    node: NodeName,
    /// What was acknowledged and is on no node that is there is lost. Without this word nothing is done.
    #[arg(long, required = true)]
    accept_data_loss: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// How long it is waited for.
#[derive(Debug, Args)]
struct Waiting {
    /// Do not wait until it is done. The order stands in the store, and goes on by itself.
    #[arg(long)]
    no_wait: bool,
    /// Wait no longer than that: `90s`, `10min`. The order goes on.
    #[arg(long, value_name = "TIME", conflicts_with = "no_wait", value_parser = argument::time)]
    timeout: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Outcome {
    /// [`SCHEMA`].
    schema: u32,
    ended: Ended,
    /// The epoch that the order ends.
    epoch: Epoch,
    /// The primary that there is then, and its timeline.
    primary: Option<NodeName>,
    timeline: Option<Timeline>,
    /// Acknowledged commits may be lost.
    forced: bool,
    waited_ms: u64,
}

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    /// There is another primary.
    Done,
    /// It was not waited for.
    Ordered,
    /// Time was over.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

impl Ended {
    const fn exit(self) -> Exit {
        match self {
            Self::Done | Self::Ordered => Exit::Done,
            Self::TimedOut => Exit::TimedOut,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// `pgha failover`.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<Exit> {
    let request = FailoverRequest { to: arguments.node, accept_data_loss: false };
    order(options, &request, &arguments.waiting).await
}

/// `pgha force-primary`.
pub(super) async fn force(options: &Options, arguments: ForceArguments) -> anyhow::Result<Exit> {
    let ForceArguments { node, accept_data_loss, waiting } = arguments;
    order(options, &FailoverRequest { to: Some(node), accept_data_loss }, &waiting).await
}

async fn order(
    options: &Options,
    request: &FailoverRequest,
    waiting: &Waiting,
) -> anyhow::Result<Exit> {
    let controller = options.controller()?;
    // Before the order: whoever hears of it may interrupt at once.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reply = client::order_failover(&controller, request).await?;
    let begun = Instant::now();
    let mut progress = Progress { json: waiting.json, begun, said: String::new() };
    let (ended, term) = if waiting.no_wait {
        (Ended::Ordered, None)
    } else {
        let over = waiting.timeout.and_then(|timeout| begun.checked_add(timeout));
        tokio::select! {
            term = progress.follow(&controller, &reply) => (Ended::Done, Some(term?)),
            () = until(over) => (Ended::TimedOut, None),
            _ = interrupt.recv() => (Ended::Interrupted, None),
        }
    };
    let outcome = Outcome {
        schema: SCHEMA,
        ended,
        epoch: reply.epoch,
        primary: term.as_ref().map(|term| term.node.clone()),
        timeline: term.as_ref().map(|term| term.timeline),
        forced: term.as_ref().is_some_and(Term::is_forced),
        waited_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    print(waiting.json, &outcome, sentence)?;
    Ok(ended.exit())
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

fn sentence(outcome: &Outcome) -> String {
    let time = words::span(Duration::from_millis(outcome.waited_ms));
    match (outcome.ended, &outcome.primary) {
        (Ended::Done, Some(primary)) => {
            let forced = if outcome.forced {
                "; acknowledged commits may be lost: pgha history has whose word that was"
            } else {
                ""
            };
            format!("{primary} is the primary, after {time}{forced}")
        }
        (Ended::TimedOut, _) => {
            format!("not done after {time}; the order goes on (pgha status shows how far it is)")
        }
        (Ended::Interrupted, _) => {
            "no longer waited for; the order goes on (pgha status shows how far it is)".to_owned()
        }
        (Ended::Done | Ended::Ordered, _) => {
            "ordered; it goes on by itself (pgha status shows how far it is)".to_owned()
        }
    }
}

/// Another order took the place of this one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Replaced(String);

/// What is said while it goes on.
struct Progress {
    json: bool,
    begun: Instant,
    said: String,
}

impl Progress {
    /// Looks until there is a primary of a later epoch, and says how far it is.
    async fn follow(
        &mut self,
        controller: &Controller,
        reply: &FailoverReply,
    ) -> anyhow::Result<Term> {
        loop {
            match client::failover(controller).await {
                Ok(status) => {
                    if let Some(term) = done(&status, reply)? {
                        return Ok(term);
                    }
                    self.say(stage(&status, reply))?;
                }
                // A controller may be restarted, or end itself: the order goes on.
                Err(error) if is_passing(&error) => self.say(error.to_string())?,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn say(&mut self, what: String) -> anyhow::Result<()> {
        if !self.json && what != self.said {
            let time = words::span(self.begun.elapsed());
            put(format!("{time:>7}  {what}\n").as_bytes())?;
            self.said = what;
        }
        Ok(())
    }
}

/// The term that came of the order, once its primary is promoted.
fn done(status: &FailoverStatus, reply: &FailoverReply) -> Result<Option<Term>, Replaced> {
    let Some(record) = &status.record else { return Ok(None) };
    if record.epoch > reply.epoch {
        return Ok(Some(record.term().clone()).filter(|term| term.promoted));
    }
    // This controller may not have seen it yet.
    let over = record.epoch == reply.epoch && record.freezes > reply.freeze;
    if over {
        let text = "the order was replaced by another; pgha history has it, pgha status how it is";
        return Err(Replaced(text.to_owned()));
    }
    Ok(None)
}

/// How far it is, in a line.
fn stage(status: &FailoverStatus, reply: &FailoverReply) -> String {
    let Some(record) = &status.record else {
        return "the record is not known to the controller".to_owned();
    };
    let primary = record.lease.node();
    match status.stage {
        StageStatus::Unknown => "the record is not known to the controller".to_owned(),
        StageStatus::Watching if record.epoch > reply.epoch => {
            format!("{primary} has taken epoch {} and is promoted", record.epoch)
        }
        StageStatus::Watching => "ordered".to_owned(),
        StageStatus::Frozen => frozen(status, record),
        StageStatus::Nominated => match &record.nomination {
            Some(nomination) => format!(
                "{} may take the next epoch: of {primary}, {}",
                nomination.node,
                tale::proof(nomination.proof)
            ),
            None => "a candidate may take the next epoch".to_owned(),
        },
    }
}

/// What is waited for while voters stop.
fn frozen(status: &FailoverStatus, record: &Record) -> String {
    let primary = record.lease.node();
    // The time that is left would be another line each time.
    let proofs: Vec<_> = status.awaits.iter().filter_map(|proof| proof.split(':').next()).collect();
    match (&status.why_not, &proofs[..]) {
        (_, [_, ..]) => format!(
            "the voters of {primary} stop; its end is to be proven, by what is first: {}",
            proofs.join(", ")
        ),
        (Some(why), []) => {
            format!("{primary} can acknowledge nothing more; nobody follows yet: {why}")
        }
        (None, []) => format!("{primary} can acknowledge nothing more"),
    }
}
