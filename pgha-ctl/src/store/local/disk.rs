//! The steps by which a file is replaced, one at a time, so that tests can have each of them fail.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

pub(super) trait Disk: fmt::Debug + Send {
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
    /// Writes over the beginning of a file.
    fn overwrite(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug)]
pub(super) struct Real;

impl Disk for Real {
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

    fn overwrite(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, 0)
    }
}

/// A file for its owner alone.
pub(super) fn private(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(truncate).mode(0o600).open(path)
}
