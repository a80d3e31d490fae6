//! The settings that are pgha's: which, and how they are written.
//!
//! PostgreSQL is started with `pgha.conf` of its data directory as its configuration. That includes the operator's
//! own, which is never written to, and sets after it what pgha changes while PostgreSQL runs. `postgresql.auto.conf`
//! is read after it: what that has of these settings is taken out at each start, and noticed later. What never
//! changes stands on the command line, which goes before everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use pgha_machine::NodeName;
use pgha_machine::failover::voters::VoterSet;

use super::config::{Method, Peer, Upstream};

#[cfg(test)]
mod tests;

/// What pgha changes while PostgreSQL runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// From whom it streams; empty: from nobody.
    pub(super) primary_conninfo: String,
    /// Whom a commit waits for; empty: for nobody.
    pub(super) synchronous_standby_names: String,
}

/// Their names, and those of others that `postgresql.auto.conf` must not have.
pub(super) const OWNED: [&str; 4] =
    ["primary_conninfo", "synchronous_standby_names", "primary_slot_name", "promote_trigger_file"];

/// From this major version on PostgreSQL can have the whole file system written before it recovers, instead of one file
/// after the other, of which there are a thousand in an empty cluster (`recovery_init_sync_method`).
const SYNCS_FILE_SYSTEMS: u32 = 14;

impl Settings {
    /// The whole of `pgha.conf` of a PostgreSQL of that major version.
    pub(super) fn render(&self, operators: &Path, version: u32) -> String {
        let mut text = String::from(
            "# pgha starts PostgreSQL with this file and writes it anew whenever something changes.\n\
             # What is the operator's is in the file that it includes.\n",
        );
        if version >= SYNCS_FILE_SYSTEMS {
            // The operator's own goes before it.
            text.push_str("recovery_init_sync_method = 'syncfs'\n");
        }
        let settings = [
            ("include", operators.to_string_lossy().into_owned()),
            ("primary_conninfo", self.primary_conninfo.clone()),
            ("synchronous_standby_names", self.synchronous_standby_names.clone()),
            ("primary_slot_name", String::new()),
        ];
        for (name, value) in settings {
            let equals = if name == "include" { " " } else { " = " };
            let _ = writeln!(text, "{name}{equals}{}", quoted(&value));
        }
        text
    }

    /// What a `pgha.conf` says.
    pub(super) fn read(text: &str) -> Self {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(" = "));
            lines.find(|(written, _)| *written == name).map_or_else(String::new, |(_, value)| {
                let inner = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
                inner.unwrap_or(value).replace("''", "'").replace("\\\\", "\\")
            })
        };
        Self {
            primary_conninfo: value("primary_conninfo"),
            synchronous_standby_names: value("synchronous_standby_names"),
        }
    }
}

/// As in `postgresql.conf`: quotes are doubled, and a backslash would begin an escape.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A configuration without the lines of settings that are pgha's; `None` where it has none.
pub(super) fn without_owned(text: &str) -> Option<(String, Vec<String>)> {
    let name = |line: &str| {
        let line = line.trim_start();
        let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
        line.get(..end).unwrap_or_default().to_ascii_lowercase()
    };
    let (owned, kept): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| OWNED.contains(&name(line).as_str()));
    if owned.is_empty() {
        return None;
    }
    let kept = kept.iter().map(|line| format!("{line}\n")).collect();
    Some((kept, owned.into_iter().map(name).collect()))
}

/// The value of `synchronous_standby_names` that waits for these.
pub(super) fn standby_names(voters: &VoterSet, method: Method) -> String {
    if voters.is_open() {
        return String::new();
    }
    let word = match method {
        Method::First => "FIRST",
        Method::Any => "ANY",
    };
    // Names of nodes have no quotes in them.
    let names: Vec<_> = voters.nodes.iter().map(|node| format!("\"{node}\"")).collect();
    format!("{word} {} ({})", voters.quorum, names.join(", "))
}

/// How libpq is told where to connect, and as whom.
#[derive(Debug)]
pub(super) struct Conninfo(BTreeMap<String, String>);

impl Conninfo {
    /// To another node's server.
    pub(super) fn to(peer: &Peer, upstream: &Upstream) -> Self {
        let mut parameters = upstream.parameters.clone();
        parameters.insert("host".to_owned(), peer.host.clone());
        parameters.insert("port".to_owned(), peer.port.to_string());
        parameters.insert("user".to_owned(), upstream.role.clone());
        Self(parameters)
    }

    /// The same with another parameter.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// As a standby of that name. Whether it may is decided by the service that it names: see [`super::valve`].
    pub(super) fn streaming(self, node: &NodeName) -> Self {
        self.with("application_name", node.as_str()).with("service", super::valve::SERVICE)
    }
}

impl std::fmt::Display for Conninfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (name, value)) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            write!(f, "{space}{name}='{value}'")?;
        }
        Ok(())
    }
}
