//! The one place that turns bytes of a frame into references.

use aya_ebpf::programs::XdpContext;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How many bytes of the frame there are.
#[inline(always)]
pub(crate) fn length(context: &XdpContext) -> usize {
    context.data_end() - context.data()
}

/// The header at `offset`; `None` when the frame ends before it does.
#[inline(always)]
pub(crate) fn at<T>(context: &XdpContext, offset: usize) -> Option<&T>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    // SAFETY: the pointer is checked against the frame's end, `T` is legal for any bytes and needs
    // no alignment, and nothing writes through another reference while this one lives.
    pointer::<T>(context, offset).map(|header| unsafe { &*header })
}

/// The header at `offset`, to be changed; `None` when the frame ends before it does.
#[inline(always)]
pub(crate) fn at_mut<T>(context: &mut XdpContext, offset: usize) -> Option<&mut T>
where
    T: FromBytes + IntoBytes + KnownLayout + Unaligned,
{
    // SAFETY: as in `at`; the exclusive borrow of the context excludes every other reference.
    pointer::<T>(context, offset).map(|header| unsafe { &mut *header })
}

#[inline(always)]
fn pointer<T>(context: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() { None } else { Some(start as *mut T) }
}
