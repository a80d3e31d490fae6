//! `pgha tls`: the certificates of a cluster.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use pgha_machine::NodeName;
use serde::Serialize;

use super::output::print;
use crate::config::Config;
use crate::rpc::authority::{self, Authority, Request, Written};
use crate::rpc::credentials::{CERTIFICATE, DIRECTORY};
use crate::rpc::identity::Role;

/// Number of the form of what `--json` prints.
const SCHEMA: u32 = 1;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make the certificate authority of a cluster: `ca.crt` and `ca.key` in the directory of `--tls`.
    ///
    /// Refuses where there is one. Keep `ca.key` where no node is: it makes whoever has it whoever he likes.
    Init {
        /// Name of the cluster; the configuration file's when missing.
        #[arg(long, value_name = "NAME")]
        cluster: Option<NodeName>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make key and certificate of a node or an operator: `ca.crt`, `node.crt` and `node.key`.
    Issue(Issue),
    /// Make certificates anew before they end: same name, addresses and key, so that only `node.crt` is to
    /// be copied. A controller takes up the new file by itself within ten seconds, or at `pgha reload`.
    Renew {
        /// Whose; everybody's below the directory of `--tls` when missing.
        name: Option<NodeName>,
        /// Where that certificate is, if not in a directory of that name below the one of `--tls`.
        #[arg(long, value_name = "DIR", requires = "name")]
        out: Option<PathBuf>,
        #[command(flatten)]
        lifetime: Lifetime,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// Name of the node or the operator; orders are recorded under it.
    name: NodeName,
    /// An IP address by which it is called; may be repeated.
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// A DNS name by which it is called; may be repeated.
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// For a person, who may steer. Without it: for a process, which reads and uses the store.
    #[arg(long)]
    operator: bool,
    /// Where to; a directory of that name below the one of `--tls` when missing.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    lifetime: Lifetime,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Lifetime {
    /// How long it lasts, at most as long as the authority.
    #[arg(long, default_value_t = 365, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

impl Lifetime {
    fn duration(self) -> Duration {
        DAY * self.days
    }
}

/// What `--json` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Document {
    schema: u32,
    certificates: Vec<Made>,
}

/// A certificate that was made.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Made {
    name: String,
    /// Missing for an authority.
    role: Option<Role>,
    addresses: Vec<IpAddr>,
    dns: Vec<String>,
    /// When it ends: seconds since the Unix epoch.
    until: u64,
    days: u64,
    /// What was written, or was there as it must be.
    files: Vec<PathBuf>,
}

impl Made {
    fn of(written: Written, now: SystemTime) -> Self {
        let Written { holder, files } = written;
        let until = holder.until;
        let left = until.duration_since(now).unwrap_or_default();
        Self {
            name: holder.name,
            role: holder.role,
            addresses: holder.addresses,
            dns: holder.names,
            until: until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            // Certificates know whole seconds, so that of 365 days a moment is missing.
            days: (left + DAY / 2).as_secs() / DAY.as_secs(),
            files,
        }
    }
}

/// What a verb did.
struct Outcome {
    made: Vec<Written>,
    /// What could not be made.
    failed: Vec<String>,
    /// What is to be done next: what that is, and the command lines for it.
    next: (String, Vec<String>),
    json: bool,
}

/// Makes what is asked for in or below `directory`.
pub(super) fn run(config: &Path, directory: &Path, verb: Verb) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let Outcome { made, failed, next, json } = match verb {
        Verb::Init { cluster, json } => init(config, directory, cluster, json, now)?,
        Verb::Issue(request) => issue(directory, request, now)?,
        Verb::Renew { name, out, lifetime, json } => {
            let whose = match (name, out) {
                (_, Some(out)) => vec![out],
                (Some(name), None) => vec![directory.join(name.as_str())],
                (None, None) => holders_below(directory)?,
            };
            renew(directory, &whose, lifetime, json, now)?
        }
    };
    let certificates = made.into_iter().map(|written| Made::of(written, now)).collect();
    let document = Document { schema: SCHEMA, certificates };
    // Those that were renewed are new, whatever became of the others.
    if failed.is_empty() || !document.certificates.is_empty() {
        print(json, &document, |document| text(document, &next))?;
    }
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn init(
    config: &Path,
    directory: &Path,
    cluster: Option<NodeName>,
    json: bool,
    now: SystemTime,
) -> anyhow::Result<Outcome> {
    let cluster = match cluster {
        Some(cluster) => cluster,
        None => Config::load(config)
            .map(|config| config.cluster().clone())
            .context("the cluster's name is not known; give it with --cluster")?,
    };
    let made = vec![authority::init(directory, &cluster, now)?];
    let pgha = if directory == Path::new(DIRECTORY) {
        "pgha tls".to_owned()
    } else {
        format!("pgha --tls {} tls", directory.display())
    };
    let next = format!(
        "This is the authority of cluster {cluster}. Whoever has ca.key can pass for anybody: back it up, and \
         copy it to no node.\n\nNext, make a certificate for each node that runs a controller, and for each \
         operator:"
    );
    let lines = ["NAME --address IP", "NAME --operator"];
    let next = (next, lines.map(|line| format!("{pgha} issue {line}")).into());
    Ok(Outcome { made, failed: Vec::new(), next, json })
}

fn issue(directory: &Path, issue: Issue, now: SystemTime) -> anyhow::Result<Outcome> {
    let Issue { name, address, dns, operator, out, lifetime, json } = issue;
    let out = out.unwrap_or_else(|| directory.join(name.as_str()));
    let next = if operator {
        let next = format!(
            "Next, give these files to {name} alone. With them a controller is steered from any host:"
        );
        (next, vec!["pgha --to HOST:PORT --tls DIR status".to_owned()])
    } else {
        let next = format!(
            "Next, copy these files to {DIRECTORY} on {name}, for the user that pgha runs as, node.key with \
             mode 0600."
        );
        (next, Vec::new())
    };
    let role = if operator { Role::Operator } else { Role::Node };
    let lifetime = lifetime.duration();
    let request = Request { name, role, addresses: address, names: dns, lifetime };
    let made = vec![Authority::load(directory, now)?.issue(&request, &out)?];
    Ok(Outcome { made, failed: Vec::new(), next, json })
}

fn renew(
    directory: &Path,
    whose: &[PathBuf],
    lifetime: Lifetime,
    json: bool,
    now: SystemTime,
) -> anyhow::Result<Outcome> {
    let authority = Authority::load(directory, now)?;
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    for folder in whose {
        match authority.renew(folder, lifetime.duration()) {
            Ok(renewed) => made.push(renewed),
            Err(error) => failed.push(error.to_string()),
        }
    }
    let next = "Next, copy each node.crt over the former one of its node. A controller takes it up by itself \
                within ten seconds.";
    Ok(Outcome { made, failed, next: (next.to_owned(), Vec::new()), json })
}

/// The directories in and below this one that have a certificate.
fn holders_below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || directory.display().to_string();
    let mut found = vec![directory.to_owned()];
    for entry in std::fs::read_dir(directory).with_context(unreadable)? {
        found.push(entry.with_context(unreadable)?.path());
    }
    found.retain(|path| path.join(CERTIFICATE).is_file());
    found.sort();
    anyhow::ensure!(
        !found.is_empty(),
        "no {CERTIFICATE} is in {} or a directory below it; say where with --tls or --out",
        directory.display()
    );
    Ok(found)
}

fn text(document: &Document, (next, lines): &(String, Vec<String>)) -> String {
    let mut text = String::new();
    for made in &document.certificates {
        let whose = match made.role {
            None => "Certificate authority".to_owned(),
            Some(role) => format!("Certificate of {} {}", role.name(), made.name),
        };
        let called: Vec<_> =
            made.addresses.iter().map(ToString::to_string).chain(made.dns.clone()).collect();
        let called =
            if called.is_empty() { String::new() } else { format!(" ({})", called.join(", ")) };
        let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(made.until));
        let days = if made.days == 1 { "day" } else { "days" };
        let _ = writeln!(text, "{whose}{called}, good until {until} ({} {days}):", made.days);
        for file in &made.files {
            let _ = writeln!(text, "  {}", file.display());
        }
    }
    let _ = writeln!(text, "\n{next}");
    lines.iter().for_each(|line| {
        let _ = writeln!(text, "  {line}");
    });
    text
}
