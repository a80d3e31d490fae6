//! How far a store had come when it was last seen: one that has come less far went back. etcd itself cannot tell:
//! after a backup is restored, revisions are given out a second time (etcd documentation, "Disaster recovery").

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::EtcdError;
use crate::rpc::durable;
use crate::store::record::Mark;

/// The highest revision seen, in memory at once and in a file now and then.
#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The file was read.
    loaded: bool,
    highest: Option<Mark>,
    written: Option<Mark>,
}

impl Seen {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), state: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was seen so far, that before this process included. An answer to a question that is asked from here on
    /// may not be below it.
    pub(super) fn highest(&self) -> Result<Option<Mark>, EtcdError> {
        let mut state = self.state();
        if !state.loaded {
            state.highest = self.load()?;
            state.written = state.highest;
            state.loaded = true;
        }
        Ok(state.highest)
    }

    fn load(&self) -> Result<Option<Mark>, EtcdError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => {
                let mark = text.trim_end().parse();
                mark.map(Some).map_err(|_| EtcdError::NotSeen { path: self.path.clone() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(EtcdError::Seen { path: self.path.clone(), source }),
        }
    }

    /// This was seen. A store that was made anew begins anew.
    pub(super) fn note(&self, mark: Mark) {
        let mut state = self.state();
        if state.highest.is_none_or(|highest| mark.is_after(highest)) {
            state.highest = Some(mark);
        }
    }

    /// Has the file remember it. Blocks for as long as the disk takes.
    pub(super) fn write(&self) -> Result<(), EtcdError> {
        let (highest, written) = {
            let state = self.state();
            (state.highest, state.written)
        };
        let Some(mark) = highest.filter(|_| highest != written) else { return Ok(()) };
        let folder = self.path.parent().unwrap_or(&self.path);
        durable::directory(folder, 0o755, &durable::sync)
            .and_then(|()| durable::replace(&self.path, format!("{mark}\n").as_bytes(), 0o600))
            .map_err(|source| EtcdError::Seen { path: self.path.clone(), source })?;
        self.state().written = Some(mark);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
