//! `pgha guardian`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::guardian::{self, Settings};

/// What the agent says when it starts a guardian.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The socket on which it listens to its agent.
    #[arg(long)]
    socket: PathBuf,
    /// Go on as an ordinary process where locked memory or real-time priority is refused.
    #[arg(long)]
    may_be_ordinary: bool,
}

/// Guards until there is nothing to guard.
pub(super) fn run(Arguments { socket, may_be_ordinary }: Arguments) -> Result<()> {
    Ok(guardian::run(&Settings { socket, may_be_ordinary })?)
}
