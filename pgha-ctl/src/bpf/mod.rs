//! BPF objects in the kernel, and where they are pinned.

pub mod gate;
pub mod kernel;
mod raw;
mod syscall;
#[cfg(test)]
mod tests;
mod walk;
pub mod xdp;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, fstatfs};

/// The directory under a BPF file system that holds what one cluster's controller and agent pin.
#[derive(Clone, Debug)]
pub struct PinDirectory {
    path: PathBuf,
}

/// Held by the one process that writes what a [`PinDirectory`] holds.
#[derive(Debug)]
pub struct PinLock {
    _lock: Flock<File>,
}

/// Pins could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file system is not there, or is another.
    #[error("{0} is no BPF file system; mount one: mount -t bpf bpf {0}")]
    NotBpffs(PathBuf),
    /// Another process holds the lock.
    #[error(
        "another controller of this cluster runs on this node (it holds {0}); stop that one first"
    )]
    Locked(PathBuf),
    /// Anything else.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
}

impl PinDirectory {
    /// `<bpffs>/pgha/<cluster>`, which need not exist yet.
    ///
    /// # Errors
    /// [`PinError::NotBpffs`] when nothing, or another file system, is mounted at `bpffs`.
    pub fn new(bpffs: &Path, cluster: &str) -> Result<Self, PinError> {
        let mounted = File::open(bpffs)
            .ok()
            .and_then(|root| fstatfs(root.as_fd()).ok())
            .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
        if !mounted {
            return Err(PinError::NotBpffs(bpffs.to_owned()));
        }
        Ok(Self { path: bpffs.join("pgha").join(cluster) })
    }

    /// Where `name` is pinned.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory and locks it for this process, until the lock is dropped.
    ///
    /// # Errors
    /// [`PinError::Locked`] while another process has it.
    pub fn lock(&self) -> Result<PinLock, PinError> {
        loop {
            fs::create_dir_all(&self.path).map_err(|source| self.failed(source))?;
            let directory = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|source| self.failed(source))?,
            };
            if let Some(lock) = self.lock_opened(directory)? {
                return Ok(lock);
            }
        }
    }

    /// `None` when the opened directory is not the one at the path any more: who had it locked has
    /// removed it, and a lock on it keeps nobody out.
    fn lock_opened(&self, directory: File) -> Result<Option<PinLock>, PinError> {
        let lock = match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(PinError::Locked(self.path.clone()));
            }
            Err((_, errno)) => return Err(self.failed(errno.into())),
        };
        let locked = lock.metadata().map_err(|source| self.failed(source))?;
        let there = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            there => there.map_err(|source| self.failed(source))?,
        };
        let same = (locked.dev(), locked.ino()) == (there.dev(), there.ino());
        Ok(same.then_some(PinLock { _lock: lock }))
    }

    fn failed(&self, source: io::Error) -> PinError {
        PinError::Io { path: self.path.clone(), source }
    }

    /// Unpins everything of the controller and removes the directory: the kernel then lets go of what nobody
    /// else holds. The directory stays where an agent has [`gate`]s in it. One that is not there is no error.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self) -> Result<(), PinError> {
        self.clear()?;
        match fs::remove_dir(&self.path) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Err(self.failed(error))
            }
            _ => Ok(()),
        }
    }

    /// Unpins everything of the controller and leaves the directory, which may be locked.
    fn clear(&self) -> Result<(), PinError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed(error)),
        };
        // The links go first, so that no program runs on maps that are half gone.
        // Directories are the agent's.
        let pins = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
        let mut names: Vec<_> = pins.map(|entry| entry.file_name()).collect();
        names.sort_by_key(|name| !xdp::is_link(&name.to_string_lossy()));
        names.into_iter().try_for_each(|name| unpin(&self.path.join(name)))
    }
}

/// Removes one pin; that it is not there is no error.
fn unpin(path: &Path) -> Result<(), PinError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PinError::Io { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
