//! `pgha check`: what keeps this node, or the servers it is to balance, from working.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::client::{self, Controller};
use super::output;
use crate::check::{self, Check, Level, Report, Role};
use crate::config::Config;
use crate::net::realserver::STATE_DIR;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Mend what is safe to mend and can be taken back, and say each thing that is done. PostgreSQL is
    /// never touched: statements for it are printed.
    #[arg(long)]
    fix: bool,
    /// Look at this node as that. Otherwise a listed node is a real server, and a director too if a
    /// controller or its data plane is there; any other node is a director.
    #[arg(long, value_enum)]
    role: Option<RoleArgument>,
    /// Show also what is as it should be.
    #[arg(long, short)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where `--fix` notes what `pgha realserver undo` takes back.
    #[arg(long, default_value = STATE_DIR, value_name = "DIR")]
    state_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArgument {
    /// It balances.
    Director,
    /// It serves the VIPs' clients.
    RealServer,
    /// It does both.
    Both,
}

impl From<RoleArgument> for Role {
    fn from(argument: RoleArgument) -> Self {
        match argument {
            RoleArgument::Director => Self { director: true, real_server: false },
            RoleArgument::RealServer => Self { director: false, real_server: true },
            RoleArgument::Both => Self { director: true, real_server: true },
        }
    }
}

/// Whether nothing was found that does not work.
pub(super) async fn run(config: &Path, arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { fix, role, all, json, state_dir } = arguments;
    let controller = async {
        let control = Config::control_at(config).map_err(|errors| errors.to_string())?;
        client::status(&Controller::Here(control))
            .await
            .map(Box::new)
            .map_err(|error| error.to_string())
    };
    let request = check::Request {
        file: config,
        role: role.map(Role::from),
        state_dir: &state_dir,
        fix,
        controller: controller.await,
    };
    let progress = Progress { shown: std::io::stderr().is_terminal() };
    let report = check::run(&request, &|what| progress.tell(what)).await;
    progress.end();
    output::print(json, &report, |report| text(report, all, fix))?;
    Ok(report.is_well())
}

/// One line that is written over, for people who wait.
struct Progress {
    shown: bool,
}

impl Progress {
    fn tell(&self, what: &str) {
        if self.shown {
            eprint!("\r\x1b[K{what} …");
            // Progress that is not seen is no failure.
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Skipped => "skipped",
        Level::Warn => "WARNING",
        Level::Fail => "FAILED",
    }
}

fn text(report: &Report, all: bool, fix: bool) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = head(&mut text, report);
    let shown = |check: &&Check| all || matches!(check.level, Level::Warn | Level::Fail);
    for check in report.checks.iter().filter(shown) {
        let _ = one(&mut text, check);
    }
    for fixed in &report.fixed {
        let _ = writeln!(text, "\ndone: {}\n  to take it back: {}", fixed.done, fixed.take_back);
    }
    for why in &report.unfixed {
        let _ = writeln!(text, "\nnot done: {why}");
    }
    let fixable = report.checks.iter().filter(|check| check.fixable).count();
    if fixable > 0 && !fix {
        let _ = writeln!(text, "\npgha check --fix would mend {fixable} of these.");
    }
    let count = |level| report.count(level);
    let warned = count(Level::Warn);
    let _ = writeln!(
        text,
        "\n{} ok, {} skipped, {warned} warning{}, {} failed",
        count(Level::Ok),
        count(Level::Skipped),
        if warned == 1 { "" } else { "s" },
        count(Level::Fail)
    );
    text
}

fn head(text: &mut String, report: &Report) -> std::fmt::Result {
    let role = match report.role {
        Role { director: true, real_server: true } => ", this node as director and real server",
        Role { director: true, .. } => ", this node as director",
        Role { real_server: true, .. } => {
            ", this node as real server (for one that is to balance as well: --role both)"
        }
        Role { .. } => "",
    };
    match &report.cluster {
        Some(cluster) => writeln!(text, "cluster {cluster}{role}"),
        None => writeln!(text, "{} cannot be used", report.file.display()),
    }
}

fn one(text: &mut String, check: &Check) -> std::fmt::Result {
    let Check { id, of, level, what, found, wanted, mend, sql, .. } = check;
    let space = if of.is_empty() { "" } else { " " };
    writeln!(text, "\n{:<7}  {id}{space}{of}: {what}", word(*level))?;
    writeln!(text, "         {found}")?;
    for (name, value) in [("wanted", wanted), ("mend", mend)] {
        if let Some(value) = value {
            writeln!(text, "         {name}: {value}")?;
        }
    }
    sql.iter().try_for_each(|statement| writeln!(text, "           {statement}"))
}
