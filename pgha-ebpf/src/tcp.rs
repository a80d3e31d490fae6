//! Whether a packet to a VIP is a TCP segment that a client may send.

use aya_ebpf::programs::XdpContext;
use pgha_common::family::Family;
use pgha_common::flow::Segment;
use pgha_common::maps::FlowKey;
use pgha_common::verdict::Reason;
use pgha_common::wire::Tcp;

use crate::frame;
use crate::packet::Carried;

/// What is known of a segment once it has passed every check; aligned as [`crate::aligned`] has it.
#[repr(C, align(8))]
pub(crate) struct Incoming<F: Family> {
    /// Its connection.
    pub(crate) key: FlowKey<F::Address>,
    /// What its header says.
    pub(crate) segment: Segment,
}

/// Reads the ports of a segment and what else its header says.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub(crate) fn read(context: &XdpContext, carried: &Carried) -> Result<([u8; 4], Segment), Reason> {
    let Some(tcp) = frame::at::<Tcp>(context, carried.at) else {
        return Err(Reason::BadTcpHeader);
    };
    let data_at = carried.at + tcp.header_length();
    if tcp.header_length() < size_of::<Tcp>() || data_at > carried.end {
        return Err(Reason::BadTcpHeader);
    }
    let segment = Segment::read(tcp, (carried.end - data_at) as u32)?;
    Ok((tcp.ports, segment))
}
