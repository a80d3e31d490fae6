//! What an agent must know again after a crash, on disk: one line of magic, version and SHA-256, and JSON after
//! it, so that a person can read it.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use pgha_machine::failover::agent::Kept;
use ring::digest::{SHA256, digest};
use tokio::sync::Mutex;

use crate::rpc::durable;

const MAGIC: &str = "pgha-agent";
const VERSION: u32 = 1;
const FILE: &str = "kept";
const LOCK: &str = "lock";

/// What was kept cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum KeptError {
    #[error("[agent] state: {} cannot be used: {source}; see that it is a directory of this user on a disk that is well", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("[agent] state: {} is in use by another agent; stop that one, or give this one another directory", .path.display())]
    InUse { path: PathBuf },
    #[error("{} has version {version}, and this pgha knows version {VERSION}; update pgha here", .path.display())]
    Newer { path: PathBuf, version: u32 },
    #[error(
        "{} is damaged ({reason}): what this node has promised is not known. Restore the file; or stop PostgreSQL on all nodes, wait for a minute, and remove it, which forgets the promises", .path.display()
    )]
    Damaged { path: PathBuf, reason: String },
}

/// The directory of it, for one agent at a time.
#[derive(Debug)]
pub(super) struct Drawer {
    file: PathBuf,
    /// Who writes. What an abandoned command has begun to write is written before the next.
    turn: Arc<Mutex<()>>,
    _lock: Flock<std::fs::File>,
}

impl Drawer {
    /// Takes the directory, and reads what is in it; nothing where nothing was ever kept.
    ///
    /// # Errors
    /// Another agent has it, the disk does not answer, or what is there is damaged.
    pub(super) fn open(directory: &Path) -> Result<(Self, Kept), KeptError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| KeptError::Io { path, source }
        };
        durable::directory(directory, 0o711, &durable::sync).map_err(failed(directory))?;
        let lock = directory.join(LOCK);
        let file = std::fs::File::options().create(true).append(true).open(&lock);
        let file = file.map_err(failed(&lock))?;
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let held = held.map_err(|_| KeptError::InUse { path: directory.to_owned() })?;
        let file = directory.join(FILE);
        let kept = match std::fs::read(&file) {
            Ok(bytes) => decode(&file, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(failed(&file)(error)),
        };
        Ok((Self { file, turn: Arc::default(), _lock: held }, kept))
    }

    /// Writes it, so that it outlives a crash. Whoever does not wait for the end cannot stop it: it is done
    /// before the next.
    ///
    /// # Errors
    /// The disk does not take it; then what was there before is there still.
    pub(super) async fn keep(&self, kept: &Kept) -> Result<(), KeptError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (file, content) = (self.file.clone(), encode(kept));
        let written = tokio::task::spawn_blocking(move || {
            let written = durable::replace(&file, &content, 0o600);
            drop(turn);
            written
        });
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|source| KeptError::Io { path: self.file.clone(), source })
    }
}

fn encode(kept: &Kept) -> Vec<u8> {
    // Every map in it has keys that are text.
    let json = serde_json::to_string_pretty(kept).unwrap_or_default();
    let hash = hexadecimal(json.as_bytes());
    format!("{MAGIC} {VERSION} {hash}\n{json}\n").into_bytes()
}

fn decode(file: &Path, bytes: &[u8]) -> Result<Kept, KeptError> {
    let damaged =
        |reason: &str| KeptError::Damaged { path: file.to_owned(), reason: reason.to_owned() };
    let text = str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
    let (head, json) = text.split_once('\n').ok_or_else(|| damaged("its end is missing"))?;
    let [magic, version, hash] = head.split(' ').collect::<Vec<_>>()[..] else {
        return Err(damaged("it does not begin as it must"));
    };
    let version: u32 = match version.parse() {
        Ok(version) if magic == MAGIC => version,
        Ok(_) | Err(_) => return Err(damaged("it does not begin as it must")),
    };
    if version != VERSION {
        return Err(KeptError::Newer { path: file.to_owned(), version });
    }
    let json = json.strip_suffix('\n').ok_or_else(|| damaged("its end is missing"))?;
    if hexadecimal(json.as_bytes()) != hash {
        return Err(damaged("its checksum is wrong"));
    }
    serde_json::from_str(json).map_err(|error| damaged(&error.to_string()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
