//! `pgha realserver setup|undo`: the VIPs on this node's loopback.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::argument;
use super::output::print;
use crate::config::Config;
use crate::controller::status::SCHEMA;
use crate::net::realserver::{self, Report, STATE_DIR, Step};

#[cfg(test)]
mod tests;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Put the VIPs on lo and keep this node from answering ARP and neighbour solicitations for them.
    Setup {
        /// A VIP; may be given several times. Otherwise those of the configuration file.
        #[arg(long, value_parser = argument::address)]
        vip: Vec<IpAddr>,
        #[command(flatten)]
        state: State,
    },
    /// Take back exactly what setup did.
    Undo {
        #[command(flatten)]
        state: State,
    },
}

#[derive(Debug, Args)]
pub(super) struct State {
    /// Where it is noted what to take back.
    #[arg(long, default_value = STATE_DIR, value_name = "DIR")]
    state_dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was done, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    /// [`SCHEMA`].
    schema: u32,
    steps: Vec<DoneStep>,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DoneStep {
    /// Its word in `step`, and what it was done to in `of`.
    #[serde(flatten)]
    step: Step,
    /// The same in words.
    says: String,
}

impl Done {
    fn of(report: &Report) -> Self {
        let step = |step: &Step| DoneStep { step: step.clone(), says: step.to_string() };
        Self { schema: SCHEMA, steps: report.steps().iter().map(step).collect() }
    }
}

pub(super) async fn run(config: &Path, verb: Verb) -> anyhow::Result<()> {
    let (report, json) = match verb {
        Verb::Setup { vip, state } => {
            let vips = if vip.is_empty() { configured(config)? } else { vip };
            (realserver::setup(&vips, &state.state_dir).await?, state.json)
        }
        Verb::Undo { state } => (realserver::undo(&state.state_dir).await?, state.json),
    };
    print(json, &Done::of(&report), |_| report.to_string())
}

fn configured(path: &Path) -> anyhow::Result<Vec<IpAddr>> {
    let config = Config::load(path)?;
    Ok(config.services().iter().map(|service| service.vip).collect())
}
