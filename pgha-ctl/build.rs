//! Puts the XDP program into the binary, so that `pgha` is one file.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=PGHA_EBPF_DIR");
    let folder = env::var_os("PGHA_EBPF_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/bpfel-unknown-none/ebpf"),
        PathBuf::from,
    );
    let object = folder.join("balancer");
    println!("cargo::rerun-if-changed={}", object.display());
    let into = PathBuf::from(env::var("OUT_DIR")?).join("balancer");
    fs::copy(&object, &into).map_err(|error| {
        format!("no XDP program at {} ({error}): `cargo xtask build` builds it", object.display())
    })?;
    Ok(())
}
