use serde::{Deserialize, Serialize};

/// Which state of a record: the store that holds it, and how many changes that store had seen.
///
/// Two marks of one store are ordered by the revision. Marks of different stores are not ordered: what is
/// restored from a backup counts on from where the backup was made, and must not be taken for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Of the store: drawn when it is made.
    pub incarnation: u128,
    /// Of the record: 0 where there is none.
    pub revision: u64,
}

impl Mark {
    /// Whether who has seen `self` may believe `other`: it is of the same store, and not older.
    #[must_use]
    pub const fn admits(self, other: Self) -> bool {
        self.incarnation == other.incarnation && self.revision <= other.revision
    }
}
