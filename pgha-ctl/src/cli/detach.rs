//! `pgha detach`: the data plane of this node is taken down.

use std::path::Path;

use clap::Args;
use pgha_machine::NodeName;
use serde::{Deserialize, Serialize};

use super::output::print;
use crate::bpf::PinDirectory;
use crate::bpf::xdp;
use crate::config::Config;
use crate::controller::status::SCHEMA;

#[cfg(test)]
mod tests;

/// How the outcome is shown.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was taken down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Detached {
    /// [`SCHEMA`].
    schema: u32,
    /// Whose data plane.
    cluster: NodeName,
    /// Whether it was there.
    detached: bool,
    /// The interfaces of the configuration.
    interfaces: Vec<String>,
}

/// Takes program and maps away; there need not be any.
pub(super) fn run(path: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let pins = PinDirectory::new(config.director().bpffs(), config.cluster().as_str())?;
    let detached = Detached {
        schema: SCHEMA,
        cluster: config.cluster().clone(),
        detached: xdp::detach(&pins)?,
        interfaces: config.director().interfaces().to_vec(),
    };
    print(arguments.json, &detached, text)
}

fn text(of: &Detached) -> String {
    if of.detached {
        format!("detached from {}; the VIPs are served no more", of.interfaces.join(", "))
    } else {
        format!("nothing is attached for cluster {}", of.cluster)
    }
}
