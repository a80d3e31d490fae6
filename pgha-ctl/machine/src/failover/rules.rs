//! The rules that may never break, each by the name it has everywhere.

use std::fmt;

/// A rule of failover. Each is asked for by name where it is kept, so that a reader finds the places and a
/// test can show that dropping one is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A node accepts writes only under an epoch that it took by its own compare-and-set.
    S1,
    /// An epoch is granted only with a proof that the one before can acknowledge nothing more.
    S2,
    /// The voter sets of the record cover every quorum that PostgreSQL may be using.
    S3,
    /// The candidate has everything that was acknowledged: it is the furthest of enough frozen voters.
    S4,
    /// What carries a lower epoch, or an older state of the record, is refused.
    S5,
    /// A node whose write-ahead log lies beyond the fork of a newer epoch neither becomes the primary nor
    /// streams before it was rewound.
    S6,
    /// After a crash PostgreSQL admits no client until its voters have what it has, and the lease was
    /// renewed since.
    S7,
    /// Without the store a primary goes on only while every member has granted it.
    S8,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::S1, Self::S2, Self::S3, Self::S4, Self::S5, Self::S6, Self::S7, Self::S8];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The rules that hold: all of them. Only with the feature `mutants`, which the program is never built
/// with, can one be dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rules {
    #[cfg(feature = "mutants")]
    dropped: Option<Rule>,
}

impl Rules {
    /// All but one.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub const fn without(rule: Rule) -> Self {
        Self { dropped: Some(rule) }
    }

    /// Whether a rule holds.
    #[cfg(feature = "mutants")]
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.dropped != Some(rule)
    }

    /// Whether a rule holds.
    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "with the feature `mutants` it is asked")]
    pub(super) const fn hold(self, _: Rule) -> bool {
        true
    }
}
