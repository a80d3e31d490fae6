//! Where the things that cargo built are: the binaries and the eBPF objects.
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

const EBPF_BELOW_TARGET: &str = "ebpf/bpfel-unknown-none/ebpf";

/// The `lab` binary, which reaps labs: `PGHA_LAB_BIN`, or the one built beside this executable.
///
/// # Errors
/// When there is none; the message names the fix.
pub fn lab_binary() -> Result<PathBuf> {
    binary("lab", "PGHA_LAB_BIN")
}

/// The `pgha` binary: `PGHA_BIN`, or the one built beside this executable.
///
/// # Errors
/// When there is none; the message names the fix.
pub fn pgha_binary() -> Result<PathBuf> {
    binary("pgha", "PGHA_BIN")
}

/// The `coordinator` binary, a controller that ends where a test says: `PGHA_COORDINATOR_BIN`, or the one built beside
/// this executable.
///
/// # Errors
/// When there is none; the message names the fix.
pub fn coordinator_binary() -> Result<PathBuf> {
    binary("coordinator", "PGHA_COORDINATOR_BIN")
}

/// The eBPF object of that name: in `PGHA_EBPF_DIR`, or in the target directory that this
/// executable was built into.
///
/// # Errors
/// When there is none; the message names the fix.
pub fn ebpf_object(name: &str) -> Result<PathBuf> {
    if let Some(directory) = env::var_os("PGHA_EBPF_DIR") {
        return existing(Path::new(&directory).join(name), "PGHA_EBPF_DIR");
    }
    // At most target/<triple>/<profile>/deps/<executable>.
    let exe = env::current_exe().context("the path of this executable")?;
    exe.ancestors()
        .skip(1)
        .take(4)
        .map(|directory| directory.join(EBPF_BELOW_TARGET).join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no eBPF object `{name}` in {EBPF_BELOW_TARGET} of the target directory of {}: \
                 run `cargo xtask build`, or name its directory in PGHA_EBPF_DIR",
                exe.display()
            )
        })
}

fn binary(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return existing(PathBuf::from(path), variable);
    }
    // A binary runs in target/<profile>, a test in target/<profile>/deps.
    let exe = env::current_exe().context("the path of this executable")?;
    exe.ancestors()
        .skip(1)
        .take(3)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no `{name}` binary beside {}: run `cargo xtask build`, or name it in {variable}",
                exe.display()
            )
        })
}

fn existing(path: PathBuf, variable: &str) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("{variable} leads to {}, which is no file", path.display());
    }
    Ok(path)
}
