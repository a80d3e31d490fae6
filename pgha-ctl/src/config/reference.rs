//! `docs/configuration.md`, written from the schema.

use std::fmt::Write as _;

use super::schema::{Absent, KEYS, Key, Kind, most, split};

/// Tables, in the order of the reference, each with what it is for.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", "Keys before the first table."),
    (
        "director",
        "This node as a director: where the XDP program runs and how large its tables are.",
    ),
    (
        "director.peer[]",
        "The other directors of the same VIPs. Frames they already balanced are passed, never balanced twice.",
    ),
    (
        "postgres",
        "How the controller logs in to PostgreSQL, always over TCP; an agent uses `dbname` alone, over its Unix socket.",
    ),
    (
        "primary",
        "Where to find the primary, whose `pg_stat_replication` names the standbys. Needed unless every service's discovery is `direct`.",
    ),
    ("health", "When a server counts as alive or dead. Consecutive results decide."),
    ("api", "The API over TCP: mutual TLS with certificates of the cluster (`pgha tls`)."),
    ("store", "What operators set outlives every restart there."),
    (
        "lease",
        "Timings of the primary's lease, for managed clusters. They are checked here; a controller alone uses none of them but for the default of `store.timeout`.",
    ),
    (
        "service[]",
        "One virtual service: a VIP and port whose connections are spread. At least one is needed.",
    ),
    (
        "node[]",
        "One database node, where it needs a name or a weight of its own, or is managed. Services with discovery `direct` or `both` need at least one.",
    ),
    (
        "controller[]",
        "The controllers of managed nodes, which decide about failover. With the store `local` there is one.",
    ),
    (
        "fence[]",
        "What turns a managed node off from outside, and proves by that that it acknowledges nothing more.",
    ),
    ("failover", "What holds for all managed nodes: those with an `agent`."),
    (
        "agent",
        "This node as a managed one, for `pgha agent`. Everything else in the file is the same on all nodes of a cluster.",
    ),
];

const NAME_RULE: &str =
    "1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit";

/// The whole file.
pub(super) fn render() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         One TOML file. Every error in it is reported at once, with its line; an unknown key is an \
         error. This page is generated from the table the parser uses; complete files are in \
         [examples](examples).\n",
    );
    for (section, purpose) in SECTIONS {
        let heading = match section.strip_suffix("[]") {
            _ if section.is_empty() => "Top level".to_owned(),
            Some(list) => format!("`[[{list}]]`"),
            None => format!("`[{section}]`"),
        };
        let _ = write!(text, "\n## {heading}\n\n{purpose}");
        if let Some(most) = section.strip_suffix("[]").and_then(most) {
            let _ = write!(text, " At most {most}.");
        }
        text.push_str("\n\n");
        text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        for key in KEYS.iter().filter(|key| split(key.path).0 == *section) {
            row(&mut text, key);
        }
    }
    text
}

fn row(text: &mut String, key: &Key) {
    let (kind, default) = (type_of(key.kind), default_of(key.absent));
    let most = most(key.path).map_or_else(String::new, |most| format!(" (at most {most})"));
    let _ = writeln!(
        text,
        "| `{}` | {kind}{most}, such as `{}` | {default} | {} |",
        split(key.path).1,
        key.example,
        key.doc
    );
}

fn type_of(kind: Kind) -> String {
    match kind {
        Kind::Text => "string".to_owned(),
        Kind::Name => format!("name ({NAME_RULE})"),
        Kind::Path => "absolute path".to_owned(),
        Kind::Address => "IP address of one host".to_owned(),
        Kind::Addresses => "IP address of one host or list of such".to_owned(),
        Kind::Interfaces => "string or list of strings".to_owned(),
        Kind::Process => "host and port".to_owned(),
        Kind::Hosts => "list of IP addresses or node names, with or without port".to_owned(),
        Kind::Listeners => "IP address with port or list of such".to_owned(),
        Kind::Endpoints => "list of URLs".to_owned(),
        Kind::Options => "list of `name=value`".to_owned(),
        Kind::Networks => "list of networks in CIDR notation".to_owned(),
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Integer { min, max } => format!("whole number, {min} to {max}"),
        Kind::Duration { min, max } => {
            format!("duration, {} to {}", milliseconds(min), milliseconds(max))
        }
        Kind::Choice(names) => quoted(names),
        Kind::Choices(names) => format!("list of {}", quoted(names)),
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`\"{name}\"`")).collect::<Vec<_>>().join(", ")
}

fn default_of(absent: Absent) -> String {
    match absent {
        Absent::Refused => "required".to_owned(),
        Absent::Nothing => "none".to_owned(),
        Absent::Text(text) => format!("`\"{text}\"`"),
        Absent::Integer(number) => format!("`{number}`"),
        Absent::Boolean(value) => format!("`{value}`"),
        Absent::Derived(rule) if rule.starts_with('"') => format!("`{rule}`"),
        Absent::Derived(rule) => rule.to_owned(),
    }
}

fn milliseconds(count: u64) -> humantime::FormattedDuration {
    humantime::format_duration(std::time::Duration::from_millis(count))
}
