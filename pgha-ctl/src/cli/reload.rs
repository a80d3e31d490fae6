//! `pgha reload`: the controller reads its configuration file again.

use clap::Args;

use super::client::{self, Options};
use super::output::print;
use crate::controller::status::ReloadReply;

/// How the outcome is shown.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Has it read; everything that is wrong with a file is told, and the old one stays in force.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<()> {
    let reply = client::reload(&options.controller()?).await?;
    print(arguments.json, &reply, text)
}

fn text(reply: &ReloadReply) -> String {
    let remarks: Vec<_> =
        reply.remarks.iter().map(|remark| format!("\nremark: {remark}")).collect();
    let warnings = reply.warnings.iter().map(|warning| format!("\nwarning: {warning}"));
    let warnings: Vec<_> = warnings.collect();
    format!("{} is in force{}{}", reply.file.display(), remarks.concat(), warnings.concat())
}
