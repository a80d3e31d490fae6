//! The one place that turns bytes of a frame into references.

use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use pgha_common::wire::Ethernet;
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

/// Whether the frame is addressed to `mac`, or to a group (IEEE 802, the lowest bit of the first byte). A
/// switch also hands out what is for others when it does not know their port.
#[inline(always)]
pub(crate) fn is_for(context: &XdpContext, mac: [u8; 6]) -> bool {
    at::<Ethernet>(context, 0)
        .is_some_and(|ethernet| ethernet.destination == mac || ethernet.destination[0] & 1 == 1)
}

/// Addresses the frame; a VLAN tag and what is behind stay.
#[inline(always)]
pub(crate) fn address(context: &mut XdpContext, to: [u8; 6], from: [u8; 6]) -> Option<()> {
    let ethernet = ethernet(context)?;
    ethernet.destination = to;
    ethernet.source = from;
    Some(())
}

/// Sends a frame that was addressed to this interface back to who sent it.
#[inline(always)]
pub(crate) fn turn(context: &mut XdpContext) -> Option<()> {
    let ethernet = ethernet(context)?;
    (ethernet.destination, ethernet.source) = (ethernet.source, ethernet.destination);
    Some(())
}

/// The Ethernet header of a frame in which much has been read already. The compiler knows then that it is
/// there and would leave out the check, which the verifier insists on: so it is made not to know.
#[inline(always)]
fn ethernet(context: &mut XdpContext) -> Option<&mut Ethernet> {
    // SAFETY: the context outlives the program run; the kernel's word for the two bounds is read anew.
    let (start, end) = unsafe {
        (
            (&raw const (*context.ctx).data).read_volatile(),
            (&raw const (*context.ctx).data_end).read_volatile(),
        )
    };
    if start as usize + size_of::<Ethernet>() > end as usize {
        return None;
    }
    // SAFETY: as in `at_mut`.
    Some(unsafe { &mut *(start as usize as *mut Ethernet) })
}

/// Makes the frame so many bytes long; what is added at its end is zero. `None` when the kernel has no
/// room for that.
#[inline(always)]
pub(crate) fn resize(context: &mut XdpContext, wanted: usize) -> Option<()> {
    let surplus = opaque(length(context)) as i32 - wanted as i32;
    // SAFETY: the helper changes the frame of this very context, and the exclusive borrow says that
    // there is no reference into it.
    if unsafe { bpf_xdp_adjust_tail(context.ctx, -surplus) } == 0 { Some(()) } else { None }
}

/// The same number, of which the compiler does not know how it came about: it would subtract in another
/// order, and the verifier lets nobody calculate with one bound of a frame alone.
#[inline(always)]
fn opaque(number: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    let number = {
        let mut moved = number;
        // SAFETY: the instruction moves a register to itself.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) moved, options(nomem, nostack));
        }
        moved
    };
    number
}

#[inline(always)]
fn pointer<T>(context: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() { None } else { Some(start as *mut T) }
}
