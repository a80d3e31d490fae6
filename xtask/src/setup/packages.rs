//! The Debian packages that are needed, and why.

use std::collections::BTreeSet;
use std::process::Command;

use super::toolchain::Toolchain;
use crate::exec::{answer, command_line};

#[cfg(test)]
mod tests;

/// A Debian package that something here needs.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Package {
    /// What apt calls it.
    pub(crate) name: &'static str,
    /// Who needs it, and for what.
    pub(crate) why: &'static str,
    needed: Needed,
}

#[derive(Debug, Eq, PartialEq)]
enum Needed {
    Always,
    /// Only where the eBPF objects are built with Debian's toolchain.
    ForDebianToolchain,
    /// By tests that are skipped where it cannot be had.
    ForSomeTests,
}

/// The server whose installation would create and start a cluster.
pub(crate) const POSTGRESQL: &str = "postgresql-15";

/// Every package that may be needed: the one list.
const PACKAGES: [Package; 17] = [
    always("gcc", "linker of the host binaries, and compiler of crates that contain C"),
    always("libc6-dev", "C library that the host binaries are linked with"),
    always(POSTGRESQL, "the servers of the lab"),
    always("iproute2", "ip: namespaces and links of the lab"),
    always("ethtool", "offload settings of the lab's links"),
    always("e2fsprogs", "mkfs.ext4: a disk of the lab that can stand still"),
    always("tcpdump", "packet captures in the lab"),
    for_some_tests("chromium", "browser for the test of the status page (about 100 MB)"),
    for_some_tests("etcd-server", "the three members of the store in the lab"),
    for_some_tests("etcd-client", "etcdctl: a store that is restored from a backup"),
    for_toolchain("rustc-web", "compiler of the eBPF objects"),
    for_toolchain("cargo-web", "cargo that fits that compiler"),
    for_toolchain("libstd-rust-web-dev-bpf", "core, compiled for eBPF"),
    for_toolchain("llvm-22-dev", "LLVM that bpf-linker is built on"),
    for_toolchain("libzstd-dev", "linked into bpf-linker by LLVM"),
    for_toolchain("zlib1g-dev", "linked into bpf-linker by LLVM"),
    for_toolchain("ca-certificates", "roots by which that cargo trusts the crate registry"),
];

const fn always(name: &'static str, why: &'static str) -> Package {
    Package { name, why, needed: Needed::Always }
}

const fn for_toolchain(name: &'static str, why: &'static str) -> Package {
    Package { name, why, needed: Needed::ForDebianToolchain }
}

const fn for_some_tests(name: &'static str, why: &'static str) -> Package {
    Package { name, why, needed: Needed::ForSomeTests }
}

impl Package {
    /// Whether everything but some tests does without it.
    pub(crate) fn is_optional(&self) -> bool {
        self.needed == Needed::ForSomeTests
    }
}

/// The packages that `toolchain` and the rest need and that are not installed.
///
/// `None` where dpkg cannot be asked.
pub(crate) fn missing(toolchain: &Toolchain) -> Option<Vec<&'static Package>> {
    let listing = answer(Command::new("dpkg-query").args(["--show", "--showformat", FORMAT]))?;
    let installed = parse_installed(&listing);
    let wanted = wanted(toolchain).into_iter();
    Some(wanted.filter(|package| !installed.contains(package.name)).collect())
}

/// The packages that `toolchain` and the rest need.
pub(crate) fn wanted(toolchain: &Toolchain) -> Vec<&'static Package> {
    let debian = matches!(toolchain, Toolchain::Debian { .. });
    let wanted = |package: &&Package| package.needed != Needed::ForDebianToolchain || debian;
    PACKAGES.iter().filter(wanted).collect()
}

const FORMAT: &str = "${Package}\t${Status}\n";

/// The names that a listing in [`FORMAT`] calls fully installed.
fn parse_installed(listing: &str) -> BTreeSet<&str> {
    let lines = listing.lines().filter_map(|line| line.split_once('\t'));
    lines.filter(|(_, status)| *status == "install ok installed").map(|(name, _)| name).collect()
}

/// The command that installs `packages`.
pub(crate) fn install_command(packages: &[&Package]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends"]).args(names(packages));
    apt
}

/// One line that a person can type to install `packages`.
pub(crate) fn typed(packages: &[&Package], is_root: bool) -> String {
    let sudo = if is_root { "" } else { "sudo " };
    format!("{sudo}apt-get update && {sudo}{}", command_line(&install_command(packages)))
}

/// What apt calls `packages`.
pub(crate) fn names(packages: &[&Package]) -> Vec<&'static str> {
    packages.iter().map(|package| package.name).collect()
}
