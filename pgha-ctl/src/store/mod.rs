//! What several processes must agree on: records under keys, changed by compare-and-set.
//!
//! A [`Store`] can do three things, and every implementation passes the same tests (`tests/src/store`):
//! [`Local`], a file of the controller; [`Remote`], a controller's store from another process, by way of
//! [`http`]; and [`Etcd`]. [`change()`] is how a record is read, changed and written by somebody whom others may
//! forestall, over a network that may lose the answer. [`ledger`] is the record that decides about failover.

mod change;
mod configured;
mod etcd;
pub(crate) mod exchange;
mod format;
pub mod http;
pub mod ledger;
mod local;
mod record;
mod remote;
mod slot;

pub use change::{ChangeError, change};
pub use configured::Configured;
pub use etcd::{Code, Etcd, EtcdError, Health, MemberHealth, Told};
pub use local::{Local, LocalError};
pub use record::{
    Incarnation, Key, MAX_VALUE, Mark, ParseKeyError, ParseMarkError, Reading, Revision,
};
pub use remote::{Remote, RemoteError};
pub use slot::Slot;

/// Records under keys.
///
/// Reads and writes are linearizable: who reads after a write was answered sees it, or what came later.
/// What was answered outlives a crash.
pub trait Store: Send + Sync + 'static {
    /// What is under a key.
    ///
    /// # Errors
    /// When that cannot be known now.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Reading, StoreError>> + Send;

    /// Puts a value under a key if what is there is still what was read as `expected`. Returns what it
    /// is now.
    ///
    /// # Errors
    /// See [`CasError`]: each variant says whether the value was written.
    fn cas(
        &self,
        key: &Key,
        expected: Mark,
        value: Vec<u8>,
    ) -> impl Future<Output = Result<Mark, CasError>> + Send;

    /// Waits until what is under a key is something else than what was read as `seen`, and reads it. Who
    /// calls it again with what it returned sees every record that stays, in order, and may miss such as
    /// are replaced at once.
    ///
    /// # Errors
    /// When the store cannot be watched now; nothing is missed by trying again.
    fn watch(
        &self,
        key: &Key,
        seen: Mark,
    ) -> impl Future<Output = Result<Reading, StoreError>> + Send;
}

/// A store cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file of this process.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Another process.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// An etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// A value was not put, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// Not put: something else is there.
    #[error("the record has changed since it was read: it is at revision {} now", .0.revision)]
    Conflict(Mark),
    /// Not put.
    #[error(transparent)]
    Failed(StoreError),
    /// Put or not: whoever needs to know reads it back, as [`change()`] does.
    #[error("it is not known whether the record was written: {0}")]
    Unknown(StoreError),
}
