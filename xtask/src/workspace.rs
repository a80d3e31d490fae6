//! Where things lie, and the host's cargo.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::EBPF_PROFILE;
use crate::environment;

/// The target triple of the eBPF objects.
pub(crate) const EBPF_TARGET: &str = "bpfel-unknown-none";

/// The checkout and its target directory.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this xtask was built from.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("the folder of xtask has no parent folder")?;
        let here = env::current_dir().context("cannot read the current directory")?;
        let chosen = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]
            .into_iter()
            .find_map(|name| env::var_os(name).filter(|value| !value.is_empty()));
        let target = match chosen {
            Some(directory) => here.join(directory),
            None => root.join("target"),
        };
        Ok(Self { root: root.to_owned(), target })
    }

    /// The folder of the root manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the host's crates are built.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where the eBPF crate is built.
    pub(crate) fn ebpf_target(&self) -> PathBuf {
        self.target.join("ebpf")
    }

    /// Where the finished eBPF objects lie.
    pub(crate) fn ebpf_objects(&self) -> PathBuf {
        self.ebpf_target().join(EBPF_TARGET).join(EBPF_PROFILE)
    }

    /// Where tools are installed that only this checkout uses.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The cargo that started xtask, for work on the host's crates.
    pub(crate) fn host_cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        environment::remove(&mut cargo, environment::is_set_by_cargo_run);
        cargo
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("PGHA_EBPF_DIR", self.ebpf_objects());
        cargo
    }
}

/// Whether this process may install packages, load eBPF programs and make network namespaces.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
