use std::path::PathBuf;

use super::{ebpf_cargo, rustc_flags};
use crate::exec::command_line;
use crate::setup::toolchain::Toolchain;
use crate::workspace::Workspace;

fn built_with(toolchain: &Toolchain) -> String {
    let workspace = Workspace::find().unwrap();
    let target = workspace.ebpf_target().display().to_string();
    command_line(&ebpf_cargo(&workspace, toolchain, "")).replace(&target, "TARGET")
}

#[test]
fn rustup_compiles_core_from_source() {
    assert_eq!(
        built_with(&Toolchain::Rustup { linker: PathBuf::from("/bin/bpf-linker") }),
        "rustup run nightly cargo build -Zbuild-std=core --package pgha-ebpf --bins --locked \
         --profile ebpf --target bpfel-unknown-none --target-dir TARGET"
    );
}

#[test]
fn debian_brings_core_compiled() {
    assert_eq!(
        built_with(&Toolchain::Debian { linker: PathBuf::from("/bin/bpf-linker") }),
        "/usr/bin/cargo build --package pgha-ebpf --bins --locked \
         --profile ebpf --target bpfel-unknown-none --target-dir TARGET"
    );
}

#[test]
fn the_flags_name_the_architecture_of_the_host() {
    assert_eq!(
        rustc_flags("x86_64", false).unwrap(),
        "--cfg=bpf_target_arch=\"x86_64\"\u{1f}-Cdebuginfo=2\u{1f}-Clink-arg=--btf"
    );
    assert!(rustc_flags("aarch64", false).unwrap().contains("aarch64"));
    assert!(rustc_flags("s390x", true).is_err());
}

#[test]
fn a_linker_that_can_is_told_that_words_may_lie_anywhere() {
    let flags = rustc_flags("x86_64", true).unwrap();
    assert!(flags.ends_with("\u{1f}-Clink-arg=--cpu-features=+allows-misaligned-mem-access"));
}
