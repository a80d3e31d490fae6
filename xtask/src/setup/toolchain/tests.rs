use std::path::PathBuf;

use super::{Facts, LLVM, Nightly, Toolchain, linker_install, llvm_major};
use crate::exec::command_line_with_variables;
use crate::workspace::Workspace;

const NEWER: u32 = LLVM + 1;

fn facts(nightly: Nightly, on_path: bool, own_linker_runs: bool) -> Facts {
    Facts {
        nightly,
        linker_on_path: on_path.then(|| PathBuf::from("/path/bpf-linker")),
        own_linker: PathBuf::from("/own/bpf-linker"),
        own_linker_runs,
    }
}

fn rustup(linker: &str) -> Toolchain {
    Toolchain::Rustup { linker: linker.into() }
}

fn debian() -> Toolchain {
    Toolchain::Debian { linker: "/own/bpf-linker".into() }
}

#[test]
fn rustup_is_used_where_nightly_has_its_source_and_a_linker() {
    for (nightly, on_path, own, chosen) in [
        (Nightly::Absent, true, true, debian()),
        (Nightly::WithoutSource, true, true, debian()),
        (Nightly::WithSource { llvm: LLVM }, false, false, debian()),
        (Nightly::WithSource { llvm: LLVM }, false, true, rustup("/own/bpf-linker")),
        (Nightly::WithSource { llvm: LLVM }, true, true, rustup("/path/bpf-linker")),
        (Nightly::WithSource { llvm: NEWER }, false, true, debian()),
        (Nightly::WithSource { llvm: NEWER }, true, false, rustup("/path/bpf-linker")),
    ] {
        let facts = facts(nightly, on_path, own);
        assert_eq!(facts.choose(), chosen, "{facts:?}");
    }
}

#[test]
fn the_reason_against_rustup_names_the_missing_piece() {
    let reason = |nightly| facts(nightly, false, false).why_not_rustup();
    assert!(reason(Nightly::Absent).contains("no nightly toolchain"));
    assert!(reason(Nightly::WithoutSource).contains("rust-src"));
    assert!(reason(Nightly::WithSource { llvm: LLVM }).contains("bpf-linker"));
}

#[test]
fn a_linker_that_does_not_run_is_lacking_only_where_it_would_be_built() {
    let linker = PathBuf::from("/nonexistent/bpf-linker");
    assert!(Toolchain::Debian { linker: linker.clone() }.lacks_linker());
    assert!(!Toolchain::Rustup { linker }.lacks_linker());
}

#[test]
fn the_linker_is_installed_beside_the_build() {
    let workspace = Workspace::find().unwrap();
    let tools = workspace.tools().display().to_string();
    assert_eq!(
        command_line_with_variables(&linker_install(&workspace)).replace(&tools, "TOOLS"),
        "LLVM_PREFIX=/usr/lib/llvm-22 RUSTC=/usr/bin/rustc /usr/bin/cargo install \
         bpf-linker@0.10.3 --locked --force --no-default-features --features llvm-22 --root TOOLS"
    );
}

#[test]
fn rustc_tells_its_llvm() {
    let version = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nhost: any\nLLVM version: 22.1.4";
    assert_eq!(llvm_major(version), Some(22));
    assert_eq!(llvm_major("rustc 1.97.0-nightly"), None);
}
