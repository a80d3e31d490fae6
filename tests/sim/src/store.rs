//! The store: one record, changed by compare-and-set, linearizable.

use pgha_machine::Mark;
use pgha_machine::failover::message::Reading;
use pgha_machine::failover::record::Record;

/// Which store it is. It is never made anew.
const INCARNATION: u128 = 7;

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    revision: u64,
    record: Record,
    /// It answers nobody.
    pub(crate) down: bool,
}

impl Store {
    pub(crate) const fn with(record: Record) -> Self {
        Self { revision: 1, record, down: false }
    }

    pub(crate) const fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn reading(&self) -> Reading {
        let mark = Mark { incarnation: INCARNATION, revision: self.revision };
        Reading { mark, record: Some(self.record.clone()) }
    }

    /// Puts a record where the one with that mark is; the new revision, or `None` where another is there.
    pub(crate) fn put(&mut self, expected: Mark, record: Record) -> Option<u64> {
        if expected.revision != self.revision {
            return None;
        }
        self.revision += 1;
        self.record = record;
        Some(self.revision)
    }
}
