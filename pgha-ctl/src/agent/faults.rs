//! Why this node had better not be the primary: one owner of what the machine is told as
//! [`Event::Faulty`], whoever finds it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgha_machine::failover::agent::Event;
use tokio::sync::{mpsc, watch};

use super::failures::{FailureKind, Failures};
use super::sight::Told;
use crate::clock::unix_ms;

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// The disk does not write.
    Disk,
    /// The link of the writer VIP is down.
    Link,
}

impl Cause {
    const fn kind(self) -> FailureKind {
        match self {
            Self::Disk => FailureKind::Disk,
            Self::Link => FailureKind::Link,
        }
    }
}

/// What is wrong, each with its reason. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    now: Arc<watch::Sender<BTreeMap<Cause, String>>>,
    failures: Failures,
}

impl Faults {
    /// Nothing is. What will be is counted in `failures`.
    pub(super) fn new(failures: Failures) -> Self {
        Self { now: Arc::new(watch::channel(BTreeMap::new()).0), failures }
    }

    /// This is wrong, or is no more.
    pub(super) fn set(&self, cause: Cause, reason: Option<String>) {
        self.now.send_if_modified(|faults| match reason {
            Some(reason) => {
                let before = faults.insert(cause, reason.clone());
                if before.is_none() {
                    self.failures.note(cause.kind(), reason.clone(), unix_ms());
                }
                before != Some(reason)
            }
            None => faults.remove(&cause).is_some(),
        });
    }

    /// The reasons.
    pub(super) fn reasons(&self) -> Vec<String> {
        self.now.borrow().values().cloned().collect()
    }

    /// Tells the loop whenever there is the first, or no more.
    pub(super) async fn tell(self, tell: mpsc::Sender<Told>) {
        let mut faults = self.now.subscribe();
        let mut told = false;
        loop {
            let faulty = !faults.borrow_and_update().is_empty();
            if faulty != told {
                told = faulty;
                if tell.send(Told::Event(Event::Faulty(faulty))).await.is_err() {
                    return;
                }
            }
            if faults.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
