//! What the facts mean. Pure: facts in, checks out.

mod cluster;
mod network;
mod real_server;
mod servers;
mod settings;
mod standby_names;
mod store;
mod system;
mod vip;

use std::path::Path;

use super::facts::Facts;
use super::{Check, about};
use crate::config::{Config, ConfigErrors};

/// The check of the BPF file system.
pub(super) const BPFFS: &str = "bpffs";
/// The checks that `pgha realserver setup` mends.
pub(super) const READER: [&str; 2] = ["real-server-vip", "real-server-arp"];

const FILE: (&str, &str) = ("configuration", "the configuration file is right");

/// What is wrong with a configuration that cannot be used.
pub(super) fn errors(errors: &ConfigErrors) -> Vec<Check> {
    let file = errors.file().display();
    let all = errors.errors().iter();
    all.map(|error| about(FILE.0, file.to_string(), FILE.1).fail(error.to_string())).collect()
}

/// What is to be said of a configuration that can be used, and of the files that it names.
pub(super) fn file(config: &Config, path: &Path) -> Vec<Check> {
    let file = || about(FILE.0, path.display().to_string(), FILE.1);
    let mut checks: Vec<_> =
        config.remarks().iter().map(|remark| file().warn(remark.to_string())).collect();
    match config.check_files(path) {
        Err(found) => checks.extend(errors(&found)),
        Ok(()) if checks.is_empty() => {
            let (services, nodes) = (config.services().len(), config.nodes().len());
            checks.push(file().ok(format!("correct; {services} services, {nodes} nodes")));
        }
        Ok(()) => {}
    }
    checks
}

#[cfg(test)]
mod tests;

/// Everything, in the order in which it is best mended.
pub(super) fn all(config: &Config, facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if facts.role.director {
        checks.extend(system::judge(config, facts));
        checks.extend(store::judge(config, facts));
        checks.extend(network::judge(config, facts));
        checks.extend(vip::judge(facts));
    }
    if let Some(real_server) = &facts.real_server {
        checks.extend(real_server::judge(real_server));
    }
    checks.extend(servers::judge(config, &facts.servers));
    checks.extend(settings::judge(config, &facts.servers));
    checks.extend(cluster::judge(config, &facts.servers));
    checks
}
