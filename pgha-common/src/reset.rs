//! The RST that tells a client that its connection is over.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{self, Sum};
use crate::family::Family;
use crate::flow::{Flow, Segment};
use crate::maps::FlowKey;
use crate::wire::{PROTOCOL_TCP, Tcp, flag};

/// A whole packet with a RST and nothing else, from a VIP to a client.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Reset<H> {
    /// From the VIP to the client.
    pub ip: H,
    /// From the service's port to the client's.
    pub tcp: Tcp,
}

/// The answer to a segment for which there is no connection (RFC 9293, section 3.10.7.1): it carries
/// the sequence number the client expects next, which is what makes the client take it.
#[must_use]
#[inline(always)]
pub fn answer<F: Family>(key: &FlowKey<F::Address>, segment: Segment) -> Reset<F::Header> {
    if segment.acknowledges {
        return whole::<F>(key, segment.acknowledgement, flag::RST, 0);
    }
    let control = u32::from(segment.opens) + u32::from(segment.closes && !segment.resets);
    let end = segment.sequence.wrapping_add(segment.data_length).wrapping_add(control);
    whole::<F>(key, 0, flag::RST | flag::ACK, end)
}

/// The RST for a client that only waits: at the last number it acknowledged, which is the one it expects
/// next unless something came since; then its challenge (RFC 5961, section 3.2) is [`answer`]ed exactly.
/// A client that has seen nothing of its server yet takes what acknowledges its SYN.
#[must_use]
pub fn unprompted<F: Family>(key: &FlowKey<F::Address>, flow: Flow) -> Reset<F::Header> {
    match (flow.acknowledgement(), flow.first_sequence()) {
        (Some(expected), _) => whole::<F>(key, expected, flag::RST, 0),
        (None, first) => {
            let next = first.unwrap_or_default().wrapping_add(1);
            whole::<F>(key, 0, flag::RST | flag::ACK, next)
        }
    }
}

/// What has a client say at which number it expects its server to go on: a keep-alive (RFC 9293, section
/// 3.8.4), one number before the last that it acknowledged here. Whatever it has acknowledged since, no
/// window admits that, so it is answered (section 3.10.7.4), where a RST with an old number is not.
/// `None` for a client that has acknowledged nothing.
#[must_use]
pub fn probe<F: Family>(key: &FlowKey<F::Address>, flow: Flow) -> Option<Reset<F::Header>> {
    let last = flow.acknowledgement()?;
    Some(keep_alive::<F>(key, last.wrapping_sub(1)))
}

/// A keep-alive with that number. A client whose window does not admit it answers (RFC 9293, section 3.10.7.4).
#[must_use]
pub fn keep_alive<F: Family>(key: &FlowKey<F::Address>, sequence: u32) -> Reset<F::Header> {
    whole::<F>(key, sequence, flag::ACK, 0)
}

#[inline(always)]
fn whole<F: Family>(
    key: &FlowKey<F::Address>,
    sequence: u32,
    flags: u8,
    acknowledgement: u32,
) -> Reset<F::Header> {
    let [a, b, c, d] = key.ports;
    let length = size_of::<Tcp>() as u16;
    let mut tcp = Tcp {
        ports: [c, d, a, b],
        sequence: sequence.to_be_bytes(),
        acknowledgement: acknowledgement.to_be_bytes(),
        data_offset: 5 << 4,
        flags,
        window: [0; 2],
        checksum: [0; 2],
        urgent: [0; 2],
    };
    let pseudo = F::pseudo_header(key.vip, key.client, PROTOCOL_TCP, length);
    tcp.checksum = checksum::finish(pseudo + sum(&tcp));
    Reset { ip: F::header(key.vip, key.client, PROTOCOL_TCP, length), tcp }
}

#[inline(always)]
fn sum(header: &Tcp) -> Sum {
    checksum::sum4(header.ports)
        + checksum::sum4(header.sequence)
        + checksum::sum4(header.acknowledgement)
        + checksum::word([header.data_offset, header.flags])
        + checksum::word(header.window)
        + checksum::word(header.urgent)
}

#[cfg(test)]
mod tests;
