//! A store in one file, for the process that has it open.
//!
//! A change writes the whole anew beside the file, syncs it, renames it over the file, and syncs the
//! directory: whenever the power goes, the old file is there or the new one, whole. A file that cannot be
//! read is therefore damaged, and is neither used nor replaced. Readers see a change when it is durable,
//! never before.
//!
//! How far the store was is noted beside it, in the file of the lock, before a change is answered. A backup
//! that is put back lies behind the note, and would give out revisions a second time: it is opened as a store
//! of its own, with another incarnation. So is a store without a note. Who puts the note back as well, as a
//! snapshot of the whole node does, removes `*.lock` before the start.

mod disk;
mod note;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use self::disk::{Disk, Real};
use self::writer::Writer;
use super::format::{Content, FormatError, MAX_RECORDS, MAX_SIZE};
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
    #[error("the store {} takes at most {MAX_RECORDS} records and {MAX_SIZE} bytes, and would have {records} and {bytes}; put shorter values, or fewer keys", .path.display())]
    Full { path: PathBuf, records: usize, bytes: usize },
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

impl Local {
    /// Opens a store, or makes an empty one where no file is. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// When the file cannot be read or is in use. It stays as it is then.
    pub fn open(path: &Path) -> Result<Self, LocalError> {
        Self::open_on(path, Box::new(Real))
    }

    fn open_on(path: &Path, disk: Box<dyn Disk>) -> Result<Self, LocalError> {
        let (writer, content) = Writer::open(path, disk)?;
        let (content, _) = watch::channel(Arc::new(content));
        Ok(Self { shared: Arc::new(Shared { writer: Mutex::new(writer), content }) })
    }

    /// Which making of the store it is, and how many changes there were.
    #[must_use]
    pub fn position(&self) -> (Incarnation, Revision) {
        let content = self.shared.content.borrow();
        (content.incarnation, content.revision)
    }

    /// Puts the file back where somebody removed it under this process; says whether that was so. If not, tries
    /// whether a change could be written.
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
        // A file that somebody removed is put back with the change.
        writer.is_missing(&content).map_err(failed)?;
        let next = Arc::new(content.with(key, value));
        if let Some((records, bytes)) = next.outgrows(&content) {
            let path = writer.path().to_owned();
            return Err(failed(LocalError::Full { path, records, bytes }));
        }
        writer.replace(&next).map_err(failed)?;
        self.settle(&mut writer).map_err(|error| CasError::Unknown(error.into()))?;
        Ok(next.mark(key))
    }

    fn tend(&self) -> Result<bool, LocalError> {
        let mut writer = self.writer();
        self.settle(&mut writer)?;
        let content = self.content();
        let missing = writer.is_missing(&content)?;
        if missing {
            writer.replace(&content)?;
            self.settle(&mut writer)?;
        } else {
            writer.attempt(&content)?;
        }
        Ok(missing)
    }

    /// Has what was written outlive a crash, and be seen.
    fn settle(&self, writer: &mut Writer) -> Result<(), LocalError> {
        if let Some(content) = writer.settle()? {
            self.content.send_replace(content);
        }
        Ok(())
    }
}
