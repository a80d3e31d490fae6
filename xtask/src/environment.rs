//! Which inherited variables a nested cargo must not see.

use std::env;
use std::process::Command;

#[cfg(test)]
mod tests;

/// What `cargo run` tells the program that it starts, about the package of that program.
const SET_BY_CARGO_RUN: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// What a cargo of another toolchain may keep: where crates come from, and how it reports.
const TOOLCHAIN_NEUTRAL: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_BUILD_JOBS",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_TERM_",
];

/// What chooses a compiler, its flags or its libraries without a name that starts with `CARGO`.
const TOOLCHAIN_CHOICES: [&str; 6] =
    ["LD_LIBRARY_PATH", "OUT_DIR", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];

/// Whether `name` describes xtask itself and means nothing to another build.
pub(crate) fn is_set_by_cargo_run(name: &str) -> bool {
    SET_BY_CARGO_RUN.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether `name` would lead a build by another toolchain astray.
pub(crate) fn belongs_to_one_toolchain(name: &str) -> bool {
    if name.starts_with("CARGO") {
        return !TOOLCHAIN_NEUTRAL.iter().any(|prefix| name.starts_with(prefix));
    }
    TOOLCHAIN_CHOICES.iter().any(|choice| name.starts_with(choice))
}

/// Keeps from `command` every inherited variable that `unwanted` picks.
pub(crate) fn remove(command: &mut Command, unwanted: fn(&str) -> bool) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(unwanted) {
            command.env_remove(name);
        }
    }
}
