//! `pgha completions` and `pgha man`: what shells and readers are told, made from the verbs themselves.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::output::put;

/// The shell that is meant.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For this shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints what that shell is to read.
    pub(super) fn print(&self, mut pgha: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut pgha, "pgha", &mut script);
        Ok(put(&script)?)
    }
}

/// Where manual pages go.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for each verb into this directory, such as /usr/local/share/man/man1; otherwise the
    /// page of pgha itself is printed.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    /// Writes or prints the manual.
    pub(super) fn write(&self, pgha: Command) -> anyhow::Result<()> {
        let Some(directory) = &self.out else {
            let mut page = Vec::new();
            clap_mangen::Man::new(pgha).render(&mut page)?;
            return Ok(put(&page)?);
        };
        let written =
            fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(pgha, directory));
        written.map_err(|error| not_written(directory, &error))?;
        put(format!("the manual is in {}: man pgha\n", directory.display()).as_bytes())?;
        Ok(())
    }
}

fn not_written(directory: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "{} cannot be written: {error}; name another directory, or be its owner",
        directory.display()
    )
}
