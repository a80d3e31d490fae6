//! Values on the stack whose bytes the compiler may access in words.
//!
//! In frames and maps words may lie anywhere, and the compiler is told so; on the stack the verifier wants them
//! aligned (Linux, `check_stack_access_within_bounds` and its callers), and a type that is read from a frame
//! asks for no alignment of its own.

use core::ops::Deref;

/// A value at an address that is a multiple of 8.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Aligned<T>(pub(crate) T);

impl<T> Aligned<T> {
    /// The value where it lies, for a look-up.
    #[inline(always)]
    pub(crate) const fn here(&self) -> &T {
        &self.0
    }
}

impl<T> Deref for Aligned<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
