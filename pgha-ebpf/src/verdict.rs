//! What is to become of a frame.

use pgha_common::verdict::Reason;

/// A reason, and the way out where that is another than the way in.
pub(crate) struct Verdict {
    pub(crate) reason: Reason,
    /// Number of the interface that a forwarded frame leaves by; `None`: the one it came in by.
    pub(crate) through: Option<u8>,
}

impl From<Reason> for Verdict {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self { reason, through: None }
    }
}
