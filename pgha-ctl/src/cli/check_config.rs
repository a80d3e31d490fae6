//! `pgha check-config`: everything that is wrong with the configuration file.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::output::print;
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

/// A file that a controller would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Correct {
    /// [`SCHEMA`].
    schema: u32,
    /// The file that was read.
    file: PathBuf,
    /// How many `[[service]]`s it has.
    services: usize,
    /// How many `[[node]]`s it has.
    nodes: usize,
    /// What is valid there but hardly meant.
    remarks: Vec<String>,
}

/// Reads it as a controller would; all that is wrong is told in one error.
pub(super) fn run(path: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    print(arguments.json, &correct(path)?, text)
}

fn correct(path: &Path) -> anyhow::Result<Correct> {
    let config = Config::load(path)?;
    config.check_files(path)?;
    Ok(Correct {
        schema: SCHEMA,
        file: path.to_owned(),
        services: config.services().len(),
        nodes: config.nodes().len(),
        remarks: config.remarks().iter().map(ToString::to_string).collect(),
    })
}

fn text(of: &Correct) -> String {
    let remarks = of.remarks.iter().map(|remark| format!("remark: {remark}\n"));
    let count = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    };
    format!(
        "{}{}: correct; {}, {}",
        remarks.collect::<String>(),
        of.file.display(),
        count(of.services, "service"),
        count(of.nodes, "node")
    )
}
