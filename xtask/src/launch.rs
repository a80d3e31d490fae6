//! Builds one of the binaries of `tests/` and becomes it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::environment;
use crate::exec::{replace_process, step};
use crate::setup::Missing;
use crate::workspace::{Workspace, is_root};

/// Arguments that belong to the started binary.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct PassedOn {
    /// Passed on as they are; --help shows what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl PassedOn {
    fn asks_for_help(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--help" || argument == "-h")
    }
}

/// Sets up, builds and replaces this process with the binary `name`.
///
/// Being replaced, and not a parent, lets every signal reach the binary itself.
pub(crate) fn run(
    workspace: &Workspace,
    missing: Missing,
    name: &str,
    profile: Profile,
    passed_on: &PassedOn,
) -> Result<Infallible> {
    if !is_root() && !passed_on.asks_for_help() {
        bail!(
            "{name} needs root, for network namespaces and XDP: \
             type `sudo -E env PATH=\"$PATH\" cargo xtask {name} ...`"
        );
    }
    build::ebpf(workspace, missing)?;
    build::host(workspace, profile)?;
    let mut command = Command::new(workspace.target().join(profile.folder()).join(name));
    environment::remove(&mut command, environment::is_set_by_cargo_run);
    command.args(&passed_on.arguments);
    step(format_args!("starting {name}"));
    Err(replace_process(&mut command))
}
