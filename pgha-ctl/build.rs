//! Puts the programs for the kernel into the binary, so that `pgha` is one file.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=PGHA_EBPF_DIR");
    let folder = env::var_os("PGHA_EBPF_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/bpfel-unknown-none/ebpf"),
        PathBuf::from,
    );
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for name in ["balancer", "gate"] {
        let object = folder.join(name);
        println!("cargo::rerun-if-changed={}", object.display());
        fs::copy(&object, out.join(name)).map_err(|error| {
            let path = object.display();
            format!("no eBPF object at {path} ({error}): `cargo xtask build` builds it")
        })?;
    }
    Ok(())
}
