//! Formatting, clippy and documentation, each without a single warning.

use std::process::Command;

use anyhow::{Result, bail};

use crate::exec::{exec, step};
use crate::workspace::Workspace;

/// Runs every check, also after one that failed.
///
/// The eBPF objects must have been built: the host's crates include them.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut failures = Vec::new();
    for (what, mut check) in checks(workspace) {
        step(format_args!("lint: {what}"));
        if let Err(failure) = exec(&mut check) {
            eprintln!("error: {failure:#}");
            failures.push(what);
        }
    }
    if !failures.is_empty() {
        bail!("lint found something in: {}", failures.join(", "));
    }
    Ok(())
}

fn checks(workspace: &Workspace) -> [(&'static str, Command); 3] {
    let mut formatting = workspace.host_cargo();
    formatting.args(["fmt", "--all", "--check"]);
    let mut clippy = workspace.host_cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let mut documentation = workspace.host_cargo();
    documentation
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    [("formatting", formatting), ("clippy", clippy), ("documentation", documentation)]
}
