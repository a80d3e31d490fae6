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
use crate::rpc::credentials::CERTIFICATE;
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
    /// be copied. A controller takes up the new file by itself within a minute, or at `pgha reload`.
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
        Self {
            name: holder.name,
            role: holder.role,
            addresses: holder.addresses,
            dns: holder.names,
            until: until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            days: until.duration_since(now).map_or(0, |left| left.as_secs() / DAY.as_secs()),
            files,
        }
    }
}

/// Makes what is asked for in or below `directory`.
pub(super) fn run(config: &Path, directory: &Path, verb: Verb) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let (made, next, json) = match verb {
        Verb::Init { cluster, json } => {
            let cluster = match cluster {
                Some(cluster) => cluster,
                None => Config::load(config)
                    .map(|config| config.cluster().clone())
                    .context("the cluster's name is not known; give it with --cluster")?,
            };
            let made = authority::init(directory, &cluster, now)?;
            (vec![made], NEXT_AFTER_INIT, json)
        }
        Verb::Issue(Issue { name, address, dns, operator, out, lifetime, json }) => {
            let role = if operator { Role::Operator } else { Role::Node };
            let out = out.unwrap_or_else(|| directory.join(name.as_str()));
            let lifetime = lifetime.duration();
            let request = Request { name, role, addresses: address, names: dns, lifetime };
            let made = Authority::load(directory, now)?.issue(&request, &out)?;
            (vec![made], if operator { NEXT_FOR_OPERATOR } else { NEXT_FOR_NODE }, json)
        }
        Verb::Renew { name, out, lifetime, json } => {
            let authority = Authority::load(directory, now)?;
            let whose = match (name, out) {
                (_, Some(out)) => vec![out],
                (Some(name), None) => vec![directory.join(name.as_str())],
                (None, None) => holders_below(directory)?,
            };
            let renew = |folder: &PathBuf| authority.renew(folder, lifetime.duration());
            (whose.iter().map(renew).collect::<Result<_, _>>()?, NEXT_AFTER_RENEWAL, json)
        }
    };
    let certificates = made.into_iter().map(|written| Made::of(written, now)).collect();
    let document = Document { schema: SCHEMA, certificates };
    print(json, &document, |document| text(document, next))
}

const NEXT_AFTER_INIT: &str = "Keep ca.key here and back it up; it goes to no node. Next, for each \
                               controller: pgha tls issue NAME --address IP; for each person: pgha tls \
                               issue NAME --operator";
const NEXT_FOR_NODE: &str = "Copy these three files to /etc/pgha/tls on that node, for the user that pgha \
                             runs as, node.key with mode 0600.";
const NEXT_FOR_OPERATOR: &str = "Give these three files to that person alone: pgha --to HOST:PORT --tls DIR \
                                 status";
const NEXT_AFTER_RENEWAL: &str = "Copy each node.crt over the former one of its node; a controller takes \
                                  it up by itself.";

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

fn text(document: &Document, next: &str) -> String {
    let mut text = String::new();
    for made in &document.certificates {
        let role = made.role.map_or("authority", Role::name);
        let called: Vec<_> =
            made.addresses.iter().map(ToString::to_string).chain(made.dns.clone()).collect();
        let called =
            if called.is_empty() { String::new() } else { format!(" ({})", called.join(", ")) };
        let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(made.until));
        let _ = writeln!(text, "{role} {}{called}: until {until}, {} days", made.name, made.days);
        for file in &made.files {
            let _ = writeln!(text, "  {}", file.display());
        }
    }
    text + next
}
