//! What is to become of a frame.

use pgha_common::verdict::Reason;

/// A reason, and the way out.
pub(crate) struct Verdict {
    pub(crate) reason: Reason,
    /// A forwarded frame leaves by another interface than it came in by, which the kernel knows already.
    pub(crate) redirected: bool,
}

impl From<Reason> for Verdict {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self { reason, redirected: false }
    }
}
