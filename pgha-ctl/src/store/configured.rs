use std::path::Path;

use pgha_machine::NodeName;

use super::{CasError, Etcd, Key, Mark, Reading, Remote, Slot, Store, StoreError};
use crate::config::{Address, StorePlace};

/// The store that the configuration names.
#[derive(Clone, Debug)]
pub enum Configured {
    /// A file of this process.
    Local(Slot),
    /// A file of a controller.
    Remote(Remote),
    /// An etcd.
    Etcd(Etcd),
}

impl Configured {
    /// The store at `place` for that cluster. It is neither opened nor connected yet.
    #[must_use]
    pub fn new(place: &StorePlace, cluster: &NodeName) -> Self {
        match place {
            StorePlace::Local(path) => Self::Local(Slot::new(path)),
            StorePlace::Etcd(etcd) => Self::Etcd(Etcd::new(etcd, cluster)),
        }
    }

    /// The same for a process that is no controller: what is local is the file of the controller at `at`,
    /// which is asked with the credentials in `tls`.
    #[must_use]
    pub fn from_outside(
        place: &StorePlace,
        cluster: &NodeName,
        at: Option<&Address>,
        tls: &Path,
    ) -> Self {
        match (place, at) {
            (StorePlace::Local(_), Some(at)) => Self::Remote(Remote::new(at.clone(), tls)),
            (StorePlace::Local(path), None) => Self::Local(Slot::new(path)),
            (StorePlace::Etcd(etcd), _) => Self::Etcd(Etcd::new(etcd, cluster)),
        }
    }

    /// Sees that it can be used. Says whether its file had to be put back, which somebody had removed.
    ///
    /// # Errors
    /// When it cannot be used.
    pub async fn tend(&self) -> Result<bool, StoreError> {
        match self {
            Self::Local(slot) => Ok(slot.tend().await?),
            Self::Remote(_) => Ok(false),
            Self::Etcd(etcd) => etcd.tend().await.map(|()| false),
        }
    }
}

impl Store for Configured {
    async fn get(&self, key: &Key) -> Result<Reading, StoreError> {
        match self {
            Self::Local(slot) => slot.get(key).await,
            Self::Remote(remote) => remote.get(key).await,
            Self::Etcd(etcd) => etcd.get(key).await,
        }
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        match self {
            Self::Local(slot) => slot.cas(key, expected, value).await,
            Self::Remote(remote) => remote.cas(key, expected, value).await,
            Self::Etcd(etcd) => etcd.cas(key, expected, value).await,
        }
    }

    async fn watch(&self, key: &Key, seen: Mark) -> Result<Reading, StoreError> {
        match self {
            Self::Local(slot) => slot.watch(key, seen).await,
            Self::Remote(remote) => remote.watch(key, seen).await,
            Self::Etcd(etcd) => etcd.watch(key, seen).await,
        }
    }
}
