use super::{belongs_to_one_toolchain, is_set_by_cargo_run};

#[test]
fn another_toolchain_does_not_see_the_outer_one() {
    for name in [
        "CARGO",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_PKG_NAME",
        "CARGO_PROFILE_RELEASE_LTO",
        "CARGO_TARGET_DIR",
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
        "CARGO_UNSTABLE_BUILD_STD",
        "LD_LIBRARY_PATH",
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ] {
        assert!(belongs_to_one_toolchain(name), "{name}");
    }
}

#[test]
fn where_crates_come_from_and_how_cargo_reports_is_kept() {
    for name in [
        "CARGO_BUILD_JOBS",
        "CARGO_HOME",
        "CARGO_HTTP_PROXY",
        "CARGO_NET_OFFLINE",
        "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
        "CARGO_TERM_COLOR",
        "HOME",
        "PATH",
        "RUST_BACKTRACE",
        "RUSTUP_HOME",
    ] {
        assert!(!belongs_to_one_toolchain(name), "{name}");
    }
}

#[test]
fn the_host_build_keeps_the_choices_of_the_user() {
    assert!(is_set_by_cargo_run("CARGO_PKG_VERSION"));
    assert!(is_set_by_cargo_run("CARGO_MANIFEST_DIR"));
    assert!(!is_set_by_cargo_run("RUSTFLAGS"));
    assert!(!is_set_by_cargo_run("CARGO_TARGET_DIR"));
}
