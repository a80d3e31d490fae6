//! The two ways to build an eBPF object, and which of them this machine offers.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment;
use crate::exec::answer;
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

/// The LLVM of Debian's eBPF toolchain.
const LLVM: u32 = 22;
/// The bpf-linker that is built on it.
const LINKER_VERSION: &str = "0.10.3";

/// What the eBPF objects are built with.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Toolchain {
    /// Nightly of rustup, which compiles `core` from source.
    Rustup {
        /// A bpf-linker that is there.
        linker: PathBuf,
    },
    /// Debian's rustc-web, which brings `core` compiled.
    Debian {
        /// Where bpf-linker is, or is to be installed.
        linker: PathBuf,
    },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup { .. } => formatter.write_str("nightly Rust"),
            Self::Debian { .. } => formatter.write_str("Debian's rustc-web"),
        }
    }
}

impl Toolchain {
    /// Whether its linker can be told that words may lie at any address: not every LLVM can.
    pub(crate) fn accesses_misaligned(&self) -> bool {
        let (Self::Rustup { linker } | Self::Debian { linker }) = self;
        answer(Command::new(linker).arg("--help").env_remove("LD_LIBRARY_PATH"))
            .is_some_and(|help| help.contains("allows-misaligned-mem-access"))
    }

    /// Whether bpf-linker is still to be installed, or does not run.
    pub(crate) fn lacks_linker(&self) -> bool {
        match self {
            Self::Rustup { .. } => false,
            Self::Debian { linker } => !is_wanted_linker(linker),
        }
    }
}

/// What this machine has of either toolchain.
#[derive(Debug)]
pub(crate) struct Facts {
    nightly: Nightly,
    linker_on_path: Option<PathBuf>,
    own_linker: PathBuf,
    own_linker_runs: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Nightly {
    Absent,
    WithoutSource,
    WithSource { llvm: u32 },
}

impl Facts {
    /// Looks at this machine.
    pub(crate) fn gather(workspace: &Workspace) -> Self {
        let own_linker = workspace.tools().join("bin/bpf-linker");
        let own_linker_runs = is_wanted_linker(&own_linker);
        Self { nightly: nightly(), linker_on_path: linker_on_path(), own_linker, own_linker_runs }
    }

    /// The toolchain to use: rustup's where it is complete, else Debian's.
    pub(crate) fn choose(&self) -> Toolchain {
        let Nightly::WithSource { llvm } = self.nightly else {
            return Toolchain::Debian { linker: self.own_linker.clone() };
        };
        // A linker reads the bitcode of its own LLVM and of older ones, not of newer ones.
        let own_linker = (self.own_linker_runs && llvm <= LLVM).then_some(&self.own_linker);
        match self.linker_on_path.as_ref().or(own_linker) {
            Some(linker) => Toolchain::Rustup { linker: linker.clone() },
            None => Toolchain::Debian { linker: self.own_linker.clone() },
        }
    }

    /// What keeps [`choose`](Self::choose) from rustup's toolchain, and what would mend it.
    pub(crate) fn why_not_rustup(&self) -> &'static str {
        match self.nightly {
            Nightly::Absent => {
                "rustup has no nightly toolchain: `rustup toolchain install nightly --component rust-src`"
            }
            Nightly::WithoutSource => {
                "rustup's nightly has no rust-src: `rustup component add --toolchain nightly rust-src`"
            }
            Nightly::WithSource { .. } => {
                "nightly Rust finds no bpf-linker on PATH: `cargo install bpf-linker`"
            }
        }
    }
}

/// Debian's cargo and compiler, kept apart from the toolchain that runs xtask.
pub(crate) fn debian_cargo() -> Command {
    let mut cargo = Command::new("/usr/bin/cargo");
    environment::remove(&mut cargo, environment::belongs_to_one_toolchain);
    cargo.env("RUSTC", "/usr/bin/rustc");
    cargo
}

/// The command that installs bpf-linker for Debian's toolchain.
pub(crate) fn linker_install(workspace: &Workspace) -> Command {
    let mut cargo = debian_cargo();
    cargo
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"))
        .args(["install", &format!("bpf-linker@{LINKER_VERSION}"), "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}"), "--root"])
        .arg(workspace.tools());
    cargo
}

fn is_wanted_linker(linker: &Path) -> bool {
    version_of(linker).is_some_and(|version| version == format!("bpf-linker {LINKER_VERSION}"))
}

fn version_of(linker: &Path) -> Option<String> {
    answer(Command::new(linker).arg("--version").env_remove("LD_LIBRARY_PATH"))
}

fn linker_on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let candidates = env::split_paths(&path).map(|folder| folder.join("bpf-linker"));
    candidates.into_iter().find(|linker| version_of(linker).is_some())
}

fn nightly() -> Nightly {
    // Without the variable some versions of rustup fetch the toolchain that is asked about.
    let rustc = |question: &[&str]| {
        let mut rustup = Command::new("rustup");
        environment::remove(&mut rustup, environment::belongs_to_one_toolchain);
        rustup.env("RUSTUP_AUTO_INSTALL", "0").args(["run", "nightly", "rustc"]).args(question);
        answer(&mut rustup)
    };
    let Some(sysroot) = rustc(&["--print", "sysroot"]) else {
        return Nightly::Absent;
    };
    if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir() {
        return Nightly::WithoutSource;
    }
    let llvm = rustc(&["--version", "--verbose"]).and_then(|version| llvm_major(&version));
    // Of an unknown LLVM nothing can be promised, as of a newer one.
    Nightly::WithSource { llvm: llvm.unwrap_or(u32::MAX) }
}

/// The major version of LLVM in what `rustc --version --verbose` says.
fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.parse().ok()
}
