//! What aya asks of the values of maps.

use aya::Pod;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value of a map, as aya wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub(in crate::bpf) struct Raw<T>(pub(in crate::bpf) T);

// SAFETY: `Pod` asks that any bytes are a value and that a value is all initialised bytes; `FromBytes`
// and `IntoBytes` are proofs of just that, and the wrapper adds nothing.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Pod for Raw<T> {}
