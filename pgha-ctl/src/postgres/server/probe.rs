//! Whether the disk of the log still writes.
//!
//! A new file is written, synced and removed, over and over, on a thread of its own: a disk that hangs hangs that
//! thread and nobody else. A file that was there already would show neither that the disk is full.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::user::OsUser;

#[cfg(test)]
mod tests;

const NAME: &str = "pgha.probe";

/// How it is with the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last write took so long.
    Writes(Duration),
    /// A write is under way for longer than it may take.
    Hangs(Duration),
    /// The last write failed.
    Fails(String),
}

/// Writes, until it is dropped.
#[derive(Debug)]
pub struct WriteProbe {
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
    within: Duration,
}

#[derive(Debug)]
struct State {
    /// Since when a write is under way.
    since: Option<Instant>,
    last: Result<Duration, String>,
}

impl WriteProbe {
    /// Begins to write in `directories` in the name of `user`, `every` so often; a write may take as long as `within`.
    ///
    /// # Errors
    /// Where there can be no further thread.
    pub fn start(
        user: OsUser,
        directories: Vec<PathBuf>,
        every: Duration,
        within: Duration,
    ) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State { since: None, last: Ok(Duration::ZERO) }));
        let ended = Arc::new(AtomicBool::new(false));
        let probe = Self { state: Arc::clone(&state), ended: Arc::clone(&ended), within };
        let turn = move || {
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                lock(&state).since = Some(begun);
                let write = || directories.iter().try_for_each(|directory| write(directory));
                let written = user.with_files(write).map_err(|error| error.to_string()).flatten();
                let mut state = lock(&state);
                state.since = None;
                state.last = written.map(|()| begun.elapsed());
                drop(state);
                thread::sleep(every);
            }
        };
        thread::Builder::new().name("write probe".to_owned()).spawn(turn)?;
        Ok(probe)
    }

    /// How it is now. It waits for nothing.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = lock(&self.state);
        match (state.since.map(|since| since.elapsed()), &state.last) {
            (Some(since), _) if since > self.within => Health::Hangs(since),
            (_, Ok(took)) if *took > self.within => Health::Hangs(*took),
            (_, Ok(took)) => Health::Writes(*took),
            (_, Err(error)) => Health::Fails(error.clone()),
        }
    }
}

impl Drop for WriteProbe {
    fn drop(&mut self) {
        // Not waited for: it may hang.
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Where to write for a data directory: with its log, and in itself where that is another file system.
///
/// # Errors
/// Where one of them cannot be seen.
pub fn directories(user: &OsUser, data: &Path) -> io::Result<Vec<PathBuf>> {
    let log = data.join("pg_wal");
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let apart = user.with_files(|| Ok::<_, io::Error>(device(&log)? != device(data)?)).flatten()?;
    Ok(std::iter::once(log).chain(apart.then(|| data.to_owned())).collect())
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(directory: &Path) -> Result<(), String> {
    let path = directory.join(NAME);
    let written = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        file.write_all(&[0; 8192])?;
        file.sync_all()?;
        fs::remove_file(&path)
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}
