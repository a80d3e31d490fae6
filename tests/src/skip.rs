//! Tests that cannot run on a machine. The test harness knows no such outcome, so it is told to people at
//! once, past the harness, and counted for `cargo xtask test`, which names it at the end.
use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// The file that skipped tests are listed in, a line for each: `name: reason`.
pub const LIST_VARIABLE: &str = "PGHA_SKIPPED";

/// Says loudly that the test of that name is skipped, why, and what would help.
///
/// # Errors
/// When that cannot be counted.
pub fn skipped(test: &str, reason: &str) -> Result<()> {
    // Not `eprintln`, which the harness swallows where a test passes.
    writeln!(io::stderr(), "\nSKIPPED {test}: {reason}\n")?;
    let Some(path) = env::var_os(LIST_VARIABLE) else { return Ok(()) };
    let list = OpenOptions::new().append(true).create(true).open(&path);
    let mut list = list.with_context(|| Path::new(&path).display().to_string())?;
    // One write, so that lines of tests side by side stay whole.
    Ok(list.write_all(format!("{test}: {reason}\n").as_bytes())?)
}
