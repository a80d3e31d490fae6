//! A store in one file, for the process that has it open.
//!
//! A change writes the whole anew beside the file, syncs it, renames it over the file, and syncs the
//! directory: whenever the power goes, the old file is there or the new one, whole. A file that cannot be
//! read is therefore damaged, and is neither used nor replaced. Readers see a change when it is durable,
//! never before.

mod disk;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;

use self::disk::{Disk, Real};
use super::format::{Content, FormatError};
use super::record::{Incarnation, Key, MAX_VALUE, Mark, Reading, Revision};
use super::{CasError, Store, StoreError};

/// A store in a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum LocalError {
    #[error("store {}: {source}; see that its directory is there, writable and not full", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("another process uses the store {}; stop that one, or give [store] path another value", .path.display())]
    InUse { path: PathBuf },
    #[error("the store {} is damaged: {source}; put a backup in its place, or move it away to begin with an empty one", .path.display())]
    Damaged { path: PathBuf, source: FormatError },
    #[error("the store {} was exchanged for another file under the running process, so it is not written; restart the process to use what is there", .path.display())]
    Exchanged { path: PathBuf },
    #[error("the lock of the store {} was removed under the running process, so it is not written; restart the process", .path.display())]
    Unlocked { path: PathBuf },
    #[error("a value of {0} bytes is too long for a store, which takes {MAX_VALUE}")]
    TooLong(usize),
    #[error("the kernel gives no random numbers for the store {}", .path.display())]
    Random { path: PathBuf },
    #[error("the process is ending")]
    Ending,
}

/// A store in one file.
#[derive(Clone, Debug)]
pub struct Local {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Mutex<Writer>,
    /// What is durable.
    content: watch::Sender<Arc<Content>>,
}

/// Who writes the file.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    lock: Flock<File>,
    /// The file as this process left it.
    file: FileId,
    /// In the file already, but perhaps not after a crash: the directory could not be synced.
    unsettled: Option<Arc<Content>>,
    disk: Box<dyn Disk>,
}

/// A file, told apart from all others that are there at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&std::fs::Metadata> for FileId {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Local {
    /// Opens a store, or makes an empty one where no file is. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// When the file cannot be read or is in use. It stays as it is then.
    pub fn open(path: &Path) -> Result<Self, LocalError> {
        Self::open_on(path, Box::new(Real))
    }

    fn open_on(path: &Path, disk: Box<dyn Disk>) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Io { path: path.to_owned(), source };
        disk.folder(folder(path)).map_err(failed)?;
        let lock = lock(path)?;
        let (content, file) = match std::fs::read(path) {
            Ok(bytes) => {
                let content = Content::decode(&bytes)
                    .map_err(|source| LocalError::Damaged { path: path.to_owned(), source })?;
                // The process before this one may have ended between renaming and syncing.
                disk.settle(folder(path)).map_err(failed)?;
                (content, FileId::of(path).map_err(failed)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let incarnation = Incarnation::draw()
                    .map_err(|_| LocalError::Random { path: path.to_owned() })?;
                let content = Content::empty(incarnation);
                let file = replace(&*disk, path, &content).map_err(failed)?;
                disk.settle(folder(path)).map_err(failed)?;
                (content, file)
            }
            Err(error) => return Err(failed(error)),
        };
        let writer = Writer { path: path.to_owned(), lock, file, unsettled: None, disk };
        let (content, _) = watch::channel(Arc::new(content));
        Ok(Self { shared: Arc::new(Shared { writer: Mutex::new(writer), content }) })
    }

    /// Which making of the store it is, and how many changes there were.
    #[must_use]
    pub fn position(&self) -> (Incarnation, Revision) {
        let content = self.shared.content.borrow();
        (content.incarnation, content.revision)
    }

    /// Puts the file back where somebody removed it under this process; says whether that was so.
    ///
    /// # Errors
    /// When the store could not be written if somebody wanted to.
    pub async fn tend(&self) -> Result<bool, LocalError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.tend()).await?
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LocalError> {
    // It goes on to its end even if nobody waits for it any more.
    tokio::task::spawn_blocking(work).await.map_err(|_| LocalError::Ending)
}

impl Store for Local {
    async fn get(&self, key: &Key) -> Result<Reading, StoreError> {
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        blocking(move || shared.get(&key)).await.flatten().map_err(StoreError::from)
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        if value.len() > MAX_VALUE {
            return Err(failed(LocalError::TooLong(value.len())));
        }
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        let done = blocking(move || shared.cas(&key, expected, value)).await;
        done.unwrap_or_else(|error| Err(CasError::Unknown(error.into())))
    }

    async fn watch(&self, key: &Key, seen: Mark) -> Result<Reading, StoreError> {
        let mut content = self.shared.content.subscribe();
        let changed = content.wait_for(|content| content.mark(key) != seen).await;
        let reading = changed.map(|content| content.reading(key));
        reading.map_err(|_| LocalError::Ending.into())
    }
}

fn failed(error: LocalError) -> CasError {
    CasError::Failed(error.into())
}

impl Shared {
    fn writer(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn content(&self) -> Arc<Content> {
        Arc::clone(&self.content.borrow())
    }

    fn get(&self, key: &Key) -> Result<Reading, LocalError> {
        self.settle(&mut self.writer())?;
        Ok(self.content().reading(key))
    }

    fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        let mut writer = self.writer();
        self.settle(&mut writer).map_err(failed)?;
        let content = self.content();
        let found = content.mark(key);
        if found != expected {
            return Err(CasError::Conflict(found));
        }
        writer.check().map_err(failed)?;
        let next = Arc::new(content.with(key, value));
        writer.replace(&next).map_err(failed)?;
        writer.unsettled = Some(Arc::clone(&next));
        self.settle(&mut writer).map_err(|error| CasError::Unknown(error.into()))?;
        Ok(next.mark(key))
    }

    fn tend(&self) -> Result<bool, LocalError> {
        let mut writer = self.writer();
        self.settle(&mut writer)?;
        let missing = writer.check()?;
        if missing {
            let content = self.content();
            writer.replace(&content)?;
            writer.unsettled = Some(content);
            self.settle(&mut writer)?;
        }
        Ok(missing)
    }

    /// Has what was written outlive a crash, and be seen.
    fn settle(&self, writer: &mut Writer) -> Result<(), LocalError> {
        if let Some(content) = writer.unsettled.clone() {
            writer.disk.settle(folder(&writer.path)).map_err(|source| writer.failed(source))?;
            writer.unsettled = None;
            self.content.send_replace(content);
        }
        Ok(())
    }
}

impl Writer {
    fn failed(&self, source: io::Error) -> LocalError {
        LocalError::Io { path: self.path.clone(), source }
    }

    /// Whether the file is missing. One that is another's is not written over: somebody meant something by
    /// it.
    fn check(&self) -> Result<bool, LocalError> {
        let held = FileId::from(&self.lock.metadata().map_err(|source| self.failed(source))?);
        if FileId::of(&lock_path(&self.path)).ok() != Some(held) {
            return Err(LocalError::Unlocked { path: self.path.clone() });
        }
        match FileId::of(&self.path) {
            Ok(found) if found == self.file => Ok(false),
            Ok(_) => Err(LocalError::Exchanged { path: self.path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn replace(&mut self, content: &Content) -> Result<(), LocalError> {
        self.file = replace(&*self.disk, &self.path, content)
            .map_err(|source| LocalError::Io { path: self.path.clone(), source })?;
        Ok(())
    }
}

/// Writes a file anew, in one step. If it fails, the old one is there.
fn replace(disk: &dyn Disk, path: &Path, content: &Content) -> io::Result<FileId> {
    let beside = path.with_added_extension("new");
    let mut file = disk.create(&beside)?;
    let written = disk
        .write(&mut file, &content.encode())
        .and_then(|()| disk.sync(&file))
        .and_then(|()| file.metadata())
        .and_then(|metadata| disk.rename(&beside, path).map(|()| FileId::from(&metadata)));
    if written.is_err() {
        // The space may be what is missing; whatever stays is replaced by the next attempt.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_added_extension("lock")
}

/// The lock is a file of its own, as the store's is replaced by every change.
fn lock(path: &Path) -> Result<Flock<File>, LocalError> {
    let failed = |source| LocalError::Io { path: path.to_owned(), source };
    let file = disk::private(&lock_path(path), false).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == nix::errno::Errno::EWOULDBLOCK {
            LocalError::InUse { path: path.to_owned() }
        } else {
            failed(errno.into())
        }
    })
}
