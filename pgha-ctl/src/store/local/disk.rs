//! The steps by which a file is replaced, one at a time, so that tests can have each of them fail.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

pub(super) trait Disk: fmt::Debug + Send {
    /// Makes a directory for its owner, with those above it.
    fn folder(&self, path: &Path) -> io::Result<()>;
    /// Makes an empty file, whatever was there.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of it.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Has its bytes outlive a crash.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Has it in place of another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Has a rename in the directory outlive a crash.
    fn settle(&self, folder: &Path) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug)]
pub(super) struct Real;

impl Disk for Real {
    fn folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        private(path, true)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn settle(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// A file for its owner alone.
pub(super) fn private(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(truncate).mode(0o600).open(path)
}
