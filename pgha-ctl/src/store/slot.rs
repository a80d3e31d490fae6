#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::local::blocking;
use super::{CasError, Key, Local, LocalError, Mark, Reading, Store, StoreError};

/// A local store that is opened as soon as it can be: each use of one that is not open tries.
#[derive(Clone, Debug)]
pub struct Slot {
    path: Arc<Path>,
    opened: Arc<Mutex<Option<Local>>>,
}

impl Slot {
    /// For the store at `path`, which is not opened yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), opened: Arc::default() }
    }

    /// See [`Local::tend`].
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn tend(&self) -> Result<bool, LocalError> {
        self.opened().await?.tend().await
    }

    async fn opened(&self) -> Result<Local, LocalError> {
        let mut opened = Arc::clone(&self.opened).lock_owned().await;
        if let Some(store) = &*opened {
            return Ok(store.clone());
        }
        let path = Arc::clone(&self.path);
        // The turn goes with the work: if nobody waits for it any more, the next one who asks does, instead of
        // finding the file in use.
        blocking(move || Ok(opened.insert(Local::open(&path)?).clone())).await.flatten()
    }
}

impl Store for Slot {
    async fn get(&self, key: &Key) -> Result<Reading, StoreError> {
        self.opened().await?.get(key).await
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        let store = self.opened().await.map_err(|error| CasError::Failed(error.into()))?;
        store.cas(key, expected, value).await
    }

    async fn watch(&self, key: &Key, seen: Mark) -> Result<Reading, StoreError> {
        self.opened().await?.watch(key, seen).await
    }
}
