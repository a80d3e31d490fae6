//! What this kernel has of what the data plane needs.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::{fs, io};

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use nix::mount::{MsFlags, mount};
use nix::sys::utsname::uname;

/// A version of Linux: the first two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// The oldest that has all that the program needs, by architecture: bounded loops, redirects and LRU tables
/// in 5.15, and on arm64 the atomic operations in 5.18.
pub const OLDEST: Version =
    if cfg!(target_arch = "aarch64") { Version(5, 18) } else { Version(5, 15) };

/// The running kernel as it calls itself, and its version where that can be read.
#[must_use]
pub fn running() -> (String, Option<Version>) {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let version = parse(&release);
    (release, version)
}

fn parse(release: &str) -> Option<Version> {
    let mut numbers = release.split(['.', '-']);
    Some(Version(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the kernel tells its own types: tools such as bpftool show maps and programs by them.
#[must_use]
pub fn has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// Whether programs are translated to machine code; `None` where that is not visible, as in a network
/// namespace other than the first.
#[must_use]
pub fn jit() -> Option<bool> {
    let text = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok()?;
    text.trim().parse().ok().map(|value: u32| value != 0)
}

/// Kilobytes of memory that processes could still have (`MemAvailable` in proc_meminfo(5)).
#[must_use]
pub fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The kinds of maps and programs that the data plane is made of and that this kernel lacks.
///
/// # Errors
/// The kernel does not let this process ask.
pub fn missing() -> Result<Vec<&'static str>, String> {
    const MAPS: [(MapType, &str); 7] = [
        (MapType::Array, "array maps"),
        (MapType::Hash, "hash maps"),
        (MapType::LruHash, "LRU hash maps"),
        (MapType::PerCpuArray, "per-CPU array maps"),
        (MapType::LpmTrie, "longest prefix maps"),
        (MapType::DevMap, "device maps"),
        (MapType::RingBuf, "ring buffers"),
    ];
    let mut missing = Vec::new();
    for (map, name) in MAPS {
        if !is_map_supported(map).map_err(|error| error.to_string())? {
            missing.push(name);
        }
    }
    if !is_program_supported(ProgramType::Xdp).map_err(|error| error.to_string())? {
        missing.push("XDP programs");
    }
    Ok(missing)
}

/// Mounts a BPF file system at `path`, a directory that is there.
///
/// # Errors
/// What the kernel says.
pub fn mount_bpffs(path: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))?)
}
