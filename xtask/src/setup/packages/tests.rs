use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{PACKAGES, Package, Toolchain, names, parse_installed, typed, wanted};

fn debian() -> Toolchain {
    Toolchain::Debian { linker: PathBuf::from("/nonexistent/bpf-linker") }
}

fn rustup() -> Toolchain {
    Toolchain::Rustup { linker: PathBuf::from("/nonexistent/bpf-linker") }
}

fn named(name: &str) -> &'static Package {
    PACKAGES.iter().find(|package| package.name == name).unwrap()
}

#[test]
fn only_what_is_fully_installed_counts() {
    let listing = "gcc\tinstall ok installed\n\
                   tcpdump\tdeinstall ok config-files\n\
                   ethtool\tinstall ok half-configured\n\
                   iproute2\thold ok installed\n\
                   libc6-dev\tinstall ok installed\n\
                   libc6-dev\tdeinstall ok config-files\n";
    assert_eq!(parse_installed(listing), BTreeSet::from(["gcc", "libc6-dev"]));
}

#[test]
fn the_rustup_toolchain_needs_none_of_debians() {
    let with_rustup = names(&wanted(&rustup()));
    assert!(with_rustup.contains(&"postgresql-15"));
    assert!(!with_rustup.contains(&"rustc-web"));
    assert_eq!(names(&wanted(&debian())).len(), PACKAGES.len());
}

#[test]
fn only_the_browser_and_etcd_can_be_done_without() {
    let optional = PACKAGES.iter().filter(|package| package.is_optional());
    assert_eq!(names(&optional.collect::<Vec<_>>()), ["chromium", "etcd-server", "etcd-client"]);
    assert!(names(&wanted(&rustup())).contains(&"chromium"));
}

#[test]
fn the_line_to_type_asks_for_root_only_where_it_must() {
    let packages = [named("tcpdump"), named("llvm-22-dev")];
    assert_eq!(
        typed(&packages, true),
        "apt-get update && apt-get install -y --no-install-recommends tcpdump llvm-22-dev"
    );
    assert_eq!(
        typed(&packages, false),
        "sudo apt-get update && \
         sudo apt-get install -y --no-install-recommends tcpdump llvm-22-dev"
    );
}

#[test]
fn every_package_stands_once_in_the_list_and_says_why() {
    let names: BTreeSet<_> = PACKAGES.iter().map(|package| package.name).collect();
    assert_eq!(names.len(), PACKAGES.len());
    assert!(PACKAGES.iter().all(|package| !package.why.is_empty()));
}
