//! What has failed on this node, by kind: how often, when last, and what. It outlives the agent, and is for people.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::rpc::durable;

/// The file in the agent's state directory.
const FILE: &str = "failures.json";

/// What kind of thing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// PostgreSQL ended as the primary or a standby, and nobody had ordered it.
    Crash,
    /// An order of the agent did not work.
    Order,
    /// The disk did not write.
    Disk,
    /// The link of the writer VIP did not carry it.
    Link,
}

/// How often something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How often, since it was cleared last.
    pub count: u64,
    /// When last: milliseconds since the Unix epoch, by the clock of the node.
    pub last: u64,
    /// What happened then, in a sentence.
    pub reason: String,
}

/// All of them.
pub type Failed = BTreeMap<FailureKind, Failure>;

/// The failures of this node.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    path: PathBuf,
    failed: Arc<Mutex<Failed>>,
    /// Who writes the file: one after the other.
    writes: Arc<Mutex<()>>,
}

impl Failures {
    /// Those that are kept in the agent's state directory. A file that cannot be read counts as none.
    pub(super) fn kept_in(state: &Path) -> Self {
        let path = state.join(FILE);
        let failed = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("{} cannot be read and is begun anew: {error}", path.display());
                Failed::default()
            }),
            Err(_) => Failed::default(),
        };
        Self { path, failed: Arc::new(Mutex::new(failed)), writes: Arc::default() }
    }

    /// What failed so far.
    pub(super) fn list(&self) -> Failed {
        self.failed().clone()
    }

    /// Something has failed at `now`.
    pub(super) fn note(&self, kind: FailureKind, reason: String, now: u64) {
        let mut failed = self.failed();
        let count = failed.get(&kind).map_or(0, |failure| failure.count) + 1;
        failed.insert(kind, Failure { count, last: now, reason });
        drop(failed);
        self.keep();
    }

    /// Forgets them.
    pub(super) fn clear(&self) {
        self.failed().clear();
        self.keep();
    }

    /// Beside the loop, which waits for no disk: one that is broken may be what failed. What is written is what is
    /// known by then, so that the last write has all of it.
    fn keep(&self) {
        let this = self.clone();
        let write = move || {
            let _turn = this.writes.lock().unwrap_or_else(PoisonError::into_inner);
            let known = this.list();
            let written = serde_json::to_vec(&known).map_err(io::Error::from);
            let written = written.and_then(|bytes| durable::replace(&this.path, &bytes, 0o644));
            if let Err(error) = written {
                let path = this.path.display();
                tracing::warn!("{path}: {error}; failures are forgotten with this agent");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }

    fn failed(&self) -> MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
