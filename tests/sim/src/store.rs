//! The store: one record, changed by compare-and-set, linearizable.

use pgha_machine::Mark;
use pgha_machine::failover::message::Reading;
use pgha_machine::failover::record::Record;

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    incarnation: u128,
    revision: u64,
    record: Record,
    /// It answers nobody.
    pub(crate) down: bool,
}

/// What was once in the store.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    revision: u64,
    pub(crate) record: Record,
}

impl Store {
    pub(crate) const fn with(record: Record) -> Self {
        Self { incarnation: 7, revision: 1, record, down: false }
    }

    pub(crate) const fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn reading(&self) -> Reading {
        let mark = Mark { incarnation: self.incarnation, revision: self.revision };
        Reading { mark, record: Some(Box::new(self.record.clone())) }
    }

    pub(crate) fn backup(&self) -> Backup {
        Backup { revision: self.revision, record: self.record.clone() }
    }

    /// It is as it was: under its old name and counting on from there, as etcd is, or `anew`, as a file is that the
    /// only controller keeps.
    pub(crate) fn restore(&mut self, backup: Backup, anew: bool) {
        self.incarnation += u128::from(anew);
        self.revision = backup.revision;
        self.record = backup.record;
    }

    /// Puts a record where the one with that mark is; the new revision, or `None` where another is there.
    pub(crate) fn put(&mut self, expected: Mark, record: Record) -> Option<u64> {
        if (expected.incarnation, expected.revision) != (self.incarnation, self.revision) {
            return None;
        }
        self.revision += 1;
        self.record = record;
        Some(self.revision)
    }
}
