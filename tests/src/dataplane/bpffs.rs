//! A BPF file system that nobody else sees.
use std::env;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;

/// A BPF file system of its own, on no path but that of an open file: it ends with the value, and
/// with the process however that ends.
#[derive(Debug)]
pub struct PrivateBpffs {
    path: PathBuf,
    _root: File,
}

impl PrivateBpffs {
    /// Mounts one.
    ///
    /// # Errors
    /// Without root, in one sentence with the fix.
    pub fn mount() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !geteuid().is_root() {
            bail!("loading an XDP program needs root: run it with sudo");
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("pgha-bpffs-{}-{number}", process::id()));
        fs::create_dir(&directory)?;
        let opened = Self::mount_at(&directory);
        fs::remove_dir(&directory)?;
        let root = opened?;
        // The link leads into the file system, whether or not that is mounted anywhere.
        Ok(Self { path: format!("/proc/self/fd/{}", root.as_raw_fd()).into(), _root: root })
    }

    fn mount_at(directory: &Path) -> Result<File> {
        mount(Some("bpf"), directory, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount a bpffs at {}", directory.display()))?;
        let root = File::open(directory);
        umount2(directory, MntFlags::MNT_DETACH)?;
        Ok(root?)
    }

    /// Where it is, for this process alone.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
