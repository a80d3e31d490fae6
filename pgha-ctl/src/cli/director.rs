//! `pgha director take|release`: whether this node answers for the VIPs.

use clap::Subcommand;

use super::client::{self, Options};
use super::output::print;
use crate::controller::status::{RoleOrder, RoleReply, RoleRequest};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Have this node answer for the VIPs; the director that does so now stands by.
    Take {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have this node stand by. No other takes over by itself.
    Release {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Asks the controller, and says what it is then.
pub(super) async fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let (role, json) = match verb {
        Verb::Take { json } => (RoleOrder::Take, json),
        Verb::Release { json } => (RoleOrder::Release, json),
    };
    let reply = client::role(&options.controller()?, RoleRequest { role }).await?;
    print(json, &reply, |reply: &RoleReply| format!("this director is {}", reply.role))
}
