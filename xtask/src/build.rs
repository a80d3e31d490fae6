//! The eBPF objects, then the host binaries that contain them.

use std::process::Command;

use anyhow::{Result, bail};

use crate::environment;
use crate::exec::{exec_to_stderr, step};
use crate::setup::toolchain::{self, Toolchain};
use crate::setup::{self, Missing};
use crate::workspace::{EBPF_TARGET, Workspace};

#[cfg(test)]
mod tests;

/// The cargo profile of the eBPF objects, which the root manifest defines.
pub(crate) const EBPF_PROFILE: &str = "ebpf";

/// How the host binaries are built.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    /// Quick to build; for tests, the lab and the demo.
    Dev,
    /// Optimised; for measurements.
    Release,
}

impl Profile {
    /// The folder of the target directory in which cargo puts the binaries.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }

    fn cargo_name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// Sets up, then builds the eBPF objects.
pub(crate) fn ebpf(workspace: &Workspace, missing: Missing) -> Result<()> {
    let toolchain = setup::run(workspace, missing)?;
    step(format_args!("building the eBPF objects with {toolchain}"));
    let flags = rustc_flags(std::env::consts::ARCH, toolchain.accesses_misaligned())?;
    exec_to_stderr(&mut ebpf_cargo(workspace, &toolchain, &flags))
}

/// Builds the binaries of pgha-ctl and pgha-tests; the eBPF objects must have been built.
pub(crate) fn host(workspace: &Workspace, profile: Profile) -> Result<()> {
    step(format_args!("building the host binaries ({})", profile.cargo_name()));
    let mut cargo = workspace.host_cargo();
    cargo.args(["build", "--package", "pgha-ctl", "--package", "pgha-tests", "--bins"]);
    exec_to_stderr(cargo.args(["--profile", profile.cargo_name()]))
}

fn ebpf_cargo(workspace: &Workspace, toolchain: &Toolchain, flags: &str) -> Command {
    let (mut cargo, linker) = match toolchain {
        Toolchain::Rustup { linker } => {
            let mut cargo = Command::new("rustup");
            environment::remove(&mut cargo, environment::belongs_to_one_toolchain);
            cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            (cargo, linker)
        }
        Toolchain::Debian { linker } => {
            let mut cargo = toolchain::debian_cargo();
            cargo.arg("build").env("RUSTC_BOOTSTRAP", "1");
            (cargo, linker)
        }
    };
    cargo
        .current_dir(workspace.root())
        .args(["--package", "pgha-ebpf", "--bins", "--locked"])
        .args(["--profile", EBPF_PROFILE, "--target", EBPF_TARGET, "--target-dir"])
        .arg(workspace.ebpf_target())
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
    cargo
}

/// The compiler flags of the eBPF objects, in the encoding of `CARGO_ENCODED_RUSTFLAGS`.
///
/// Fields of a frame lie at odd addresses. On both architectures the kernel lets a program access them as words,
/// and a linker that knows so (LLVM 22) does: a frame then takes fewer instructions.
fn rustc_flags(host: &str, accesses_misaligned: bool) -> Result<String> {
    if !matches!(host, "x86_64" | "aarch64") {
        bail!("eBPF objects can be built on x86_64 and aarch64 hosts, and this one is {host}");
    }
    let architecture = format!("--cfg=bpf_target_arch=\"{host}\"");
    let mut flags = vec![&*architecture, "-Cdebuginfo=2", "-Clink-arg=--btf"];
    if accesses_misaligned {
        flags.push("-Clink-arg=--cpu-features=+allows-misaligned-mem-access");
    }
    Ok(flags.join("\u{1f}"))
}
