//! Who writes the file of a store, and how: no step is taken for durable that the disk has not said to be.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use super::super::format::Content;
use super::super::record::Incarnation;
use super::LocalError;
use super::disk::{Disk, private};
use super::note::{Found, Note};
use crate::rpc::durable;

/// How much is written to see whether a change could be, in bytes: most stores are smaller.
const ATTEMPT: usize = 64 * 1024;

/// Who writes the file. There is one at a time, by its lock.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    lock: Flock<File>,
    /// In the file already, but perhaps not after a crash: the directory is not synced yet.
    unsettled: Option<Arc<Content>>,
    /// To make that durable has failed since the file was written.
    doubtful: bool,
    disk: Box<dyn Disk>,
}

impl Writer {
    /// What the file holds, durably, or an empty store where there is none.
    pub(super) fn open(path: &Path, disk: Box<dyn Disk>) -> Result<(Self, Content), LocalError> {
        let failed = |source| LocalError::Io { path: path.to_owned(), source };
        let folder = folder(path);
        durable::directory(folder, 0o700, &|above| disk.settle(above)).map_err(failed)?;
        let lock = lock(path)?;
        let note = Note::read(&lock).map_err(failed)?;
        let path = path.to_owned();
        let mut writer = Self { path, lock, unsettled: None, doubtful: false, disk };
        if note == Note::Nothing {
            writer.settle_above().map_err(|source| writer.failed(source))?;
        }
        let content = match writer.read()? {
            Some((file, content)) => match note.judge(&content) {
                Found::AsNoted => {
                    let synced = writer.disk.sync(&file).and_then(|()| writer.disk.settle(folder));
                    synced.map_err(|source| writer.failed(source))?;
                    return Ok((writer, content));
                }
                // Whether that is durable is not known, and the kernel may have told somebody else that it
                // is not.
                Found::Later => content,
                Found::Another => {
                    tracing::warn!(
                        "the store {} is not as it was left: it was put back from a backup, or comes from \
                         elsewhere. It counts as another store from here on, with another incarnation, so \
                         that nobody takes its records for those he has read",
                        writer.path.display()
                    );
                    content.in_another(writer.draw()?)
                }
            },
            None => Content::empty(writer.draw()?),
        };
        writer.replace(&Arc::new(content.clone()))?;
        writer.settle()?;
        Ok((writer, content))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is missing. One that holds something else than this process left in it is not written
    /// over: somebody meant something by it.
    pub(super) fn is_missing(&self, content: &Content) -> Result<bool, LocalError> {
        let number = |file: &std::fs::Metadata| (file.dev(), file.ino());
        let held = self.lock.metadata().map_err(|source| self.failed(source))?;
        let locked = std::fs::metadata(lock_path(&self.path));
        if locked.is_ok_and(|found| number(&found) == number(&held)) {
            match std::fs::read(&self.path) {
                Ok(found) if found == content.encode() => Ok(false),
                Ok(_) => Err(LocalError::Exchanged { path: self.path.clone() }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
                Err(error) => Err(self.failed(error)),
            }
        } else {
            Err(LocalError::Unlocked { path: self.path.clone() })
        }
    }

    /// Writes the file anew, in one step. If it fails, the old one is there. [`Self::settle`] has it outlive a
    /// crash.
    pub(super) fn replace(&mut self, content: &Arc<Content>) -> Result<(), LocalError> {
        let replaced =
            self.beside(&content.encode(), |beside| self.disk.rename(beside, &self.path));
        replaced.map_err(|source| self.failed(source))?;
        self.unsettled = Some(Arc::clone(content));
        self.doubtful = false;
        Ok(())
    }

    /// Has what was written outlive a crash, and notes how far that is. Returns it, if there was any.
    pub(super) fn settle(&mut self) -> Result<Option<Arc<Content>>, LocalError> {
        let Some(content) = self.unsettled.clone() else { return Ok(None) };
        // The kernel tells each failure once and may drop what it could not write: that a directory can be
        // synced now says nothing of a rename before.
        if self.doubtful {
            self.is_missing(&content)?;
            self.replace(&content)?;
        }
        self.doubtful = true;
        let settled = self.disk.settle(folder(&self.path)).and_then(|()| self.note(&content));
        settled.map_err(|source| self.failed(source))?;
        self.doubtful = false;
        self.unsettled = None;
        Ok(Some(content))
    }

    /// Writes a file as a change would, and removes it again.
    pub(super) fn attempt(&self, content: &Content) -> Result<(), LocalError> {
        let mut bytes = content.encode();
        bytes.truncate(ATTEMPT);
        let written = self.beside(&bytes, |beside| std::fs::remove_file(beside));
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> LocalError {
        LocalError::Io { path: self.path.clone(), source }
    }

    fn draw(&self) -> Result<Incarnation, LocalError> {
        Incarnation::draw().map_err(|_| LocalError::Random { path: self.path.clone() })
    }

    fn read(&self) -> Result<Option<(File, Content)>, LocalError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| self.failed(source))?;
        let damaged = |source| LocalError::Damaged { path: self.path.clone(), source };
        Ok(Some((file, Content::decode(&bytes).map_err(damaged)?)))
    }

    fn note(&self, content: &Content) -> io::Result<()> {
        self.disk.overwrite(&self.lock, &Note::of(content))?;
        self.disk.sync(&self.lock)
    }

    /// Has the directories above outlive a crash: a process before this one may have made them and ended. What
    /// may not even be read was made by somebody else.
    fn settle_above(&self) -> io::Result<()> {
        let above = folder(&self.path).ancestors().skip(1);
        above.filter(|above| !above.as_os_str().is_empty()).try_for_each(|above| {
            match self.disk.settle(above) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                settled => settled,
            }
        })
    }

    /// Writes beside the store, durably, and does something with it.
    fn beside(&self, bytes: &[u8], then: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let beside = self.path.with_added_extension("new");
        let mut file = self.disk.create(&beside)?;
        let written = self.disk.write(&mut file, bytes).and_then(|()| self.disk.sync(&file));
        let done = written.and_then(|()| then(&beside));
        if done.is_err() {
            // The space may be what is missing; whatever stays is replaced by the next attempt.
            let _ = std::fs::remove_file(&beside);
        }
        done
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn lock_path(path: &Path) -> PathBuf {
    path.with_added_extension("lock")
}

/// The lock is a file of its own, as the store's is replaced by every change.
fn lock(path: &Path) -> Result<Flock<File>, LocalError> {
    let failed = |source| LocalError::Io { path: path.to_owned(), source };
    let file = private(&lock_path(path), false).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == nix::errno::Errno::EWOULDBLOCK {
            LocalError::InUse { path: path.to_owned() }
        } else {
            failed(errno.into())
        }
    })
}
