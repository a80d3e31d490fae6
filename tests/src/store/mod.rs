//! What every implementation of `pgha_ctl::store::Store` must do.
//!
//! A [`Harness`] says how such a store is made and made to fail; [`conformance`] asks everything of it.
//! The tests here run it on the file, on the file under a process that keeps dying, and on a controller's
//! store over TLS; `tests/netns/etcd.rs` runs it on three members of an etcd.
pub mod conformance;
#[cfg(test)]
mod tests;

use pgha_ctl::store::Store;

/// An implementation, and what a test does to it.
pub trait Harness: Send + Sync {
    /// The implementation.
    type Store: Store + Clone;

    /// Another client of the one store that this harness made.
    fn client(&self) -> impl Future<Output = Self::Store> + Send;

    /// Whatever holds the records ends without a farewell and comes back with what it made durable.
    /// Clients of before may fail from here on, or go on.
    fn restart(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether a watch that is under way outlives a restart, so that it has to end well: not where the watcher
    /// is a part of what ends.
    fn watchers_outlive_restarts(&self) -> bool {
        true
    }

    /// All records are lost, and an empty store is made in place of it.
    fn replace(&mut self) -> impl Future<Output = ()> + Send;
}
