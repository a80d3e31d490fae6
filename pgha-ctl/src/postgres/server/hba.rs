//! Whom `pg_hba.conf` admits, and whom while the voters have not yet got what was recovered (S7).
//!
//! `hba_file` cannot be changed while PostgreSQL runs, but what it leads to can be: it is a symbolic link, either to
//! the operator's file or to one that has of that only what admits replication, and the agent.

use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The files beside the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hba {
    /// The operator's.
    pub(super) operators: PathBuf,
}

impl Hba {
    /// What `hba_file` says: the link.
    pub(super) fn link(&self) -> PathBuf {
        self.operators.with_file_name("pgha_hba.conf")
    }

    /// What it leads to while clients are kept out.
    pub(super) fn closed(&self) -> PathBuf {
        self.operators.with_file_name("pgha_hba.closed.conf")
    }
}

/// Of an operator's file what admits replication, and a line for the agent.
pub(super) fn closed(text: &str, role: &str, method: &str) -> String {
    // A line may be continued by a backslash at its end (PostgreSQL 14).
    let joined = text.replace("\\\n", " ");
    let kept = joined.lines().filter_map(replication_only);
    let head = "# Written by pgha: it admits the agent and replication, and no client.\n";
    let agent = format!("local all \"{}\" {method}\n", role.replace('"', "\"\""));
    kept.fold(format!("{head}{agent}"), |text, line| format!("{text}{line}\n"))
}

/// A line that admits replication, or refuses it, and nothing else.
fn replication_only(line: &str) -> Option<String> {
    let start = line.trim_start();
    let (kind, rest) = start.split_once(char::is_whitespace)?;
    let kinds = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
    if !kinds.contains(&kind) {
        return None;
    }
    let rest = rest.trim_start();
    // Databases are separated by commas, which blanks may follow; the word counts only without quotes.
    let mut quoted = false;
    let mut after_comma = false;
    let end = rest.find(|c: char| {
        quoted ^= c == '"';
        let ends = c.is_whitespace() && !quoted && !after_comma;
        after_comma = c == ',' || (after_comma && c.is_whitespace());
        ends
    })?;
    let (databases, others) = rest.split_at(end);
    let replicates = databases.split(',').any(|name| name.trim() == "replication");
    replicates.then(|| format!("{kind} replication{others}"))
}

/// Whether that link keeps clients out.
pub(super) fn is_closed(hba: &Hba) -> bool {
    std::fs::read_link(hba.link()).is_ok_and(|to| to == hba.closed())
}

/// Has the link lead there, in one step.
pub(super) fn lead(hba: &Hba, to: &Path) -> std::io::Result<()> {
    let beside = hba.link().with_added_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(to, &beside)?;
    std::fs::rename(&beside, hba.link())?;
    hba.link().parent().map_or(Ok(()), crate::rpc::durable::sync)
}
