//! `pgha realserver setup|undo`: the VIPs on this node's loopback.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::net::realserver::{self, STATE_DIR};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Put the VIPs on lo and keep this node from answering ARP and neighbour solicitations for them.
    Setup {
        /// A VIP; may be given several times. Otherwise those of the configuration file.
        #[arg(long)]
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
}

pub(super) async fn run(config: &Path, verb: Verb) -> anyhow::Result<()> {
    let report = match verb {
        Verb::Setup { vip, state } => {
            let vips = if vip.is_empty() { configured(config)? } else { vip };
            realserver::setup(&vips, &state.state_dir).await?
        }
        Verb::Undo { state } => realserver::undo(&state.state_dir).await?,
    };
    println!("{report}");
    Ok(())
}

fn configured(path: &Path) -> anyhow::Result<Vec<IpAddr>> {
    let config = Config::load(path)?;
    Ok(config.services().iter().map(|service| service.vip).collect())
}
