//! `pgha clear-failures`: what failed on managed nodes is mended, and counted anew.

use clap::Args;
use pgha_machine::NodeName;

use super::client::{self, Options};
use super::output::print;
use crate::controller::failover::{ClearReply, ClearRequest};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node; all managed nodes when missing.
    node: Option<NodeName>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<()> {
    let request = ClearRequest { node: arguments.node };
    let reply = client::clear_failures(&options.controller()?, &request).await?;
    print(arguments.json, &reply, text)
}

fn text(reply: &ClearReply) -> String {
    let told: Vec<_> = reply.told.iter().map(NodeName::as_str).collect();
    format!(
        "told to count failures and restarts anew: {} (pgha status shows what each counts)",
        told.join(", ")
    )
}
