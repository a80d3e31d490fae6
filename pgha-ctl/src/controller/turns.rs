//! Turns at work that takes a thread and much memory for as long as it lasts: a few at a time, however many ask.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many of one kind are at work at once: more would only take longer each.
const AT_ONCE: usize = 2;

/// The turns at one kind of work.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// A turn, for as long as this lives: it goes with the work, which may outlast who asked for it.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turns {
    /// Waits for the next one, in the order of those who ask. Who gives up waiting leaves the queue.
    pub(super) async fn next(&self) -> Turn {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        Turn { _permit: permit.expect("the semaphore is never closed") }
    }
}
