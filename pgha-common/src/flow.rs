//! What is remembered of a flow, and what each of its segments changes in that.
//!
//! ```text
//!              SYN, or a segment nobody knows            RST nobody knows
//!                        |                                (nothing)
//!                        v
//!                    +-------+  acknowledges more than at first   +-------------+
//!          ACK ----> |pending| ---------------------------------> | established | <---- any segment
//!    (first noted)   +-------+                                    +-------------+  (closing mark set
//!                                                                                   or cleared)
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::verdict::Reason;
use crate::wire::{Tcp, flag};

/// How many generations an id has before the first comes again.
pub const GENERATIONS: u16 = 1 << 14;

/// A real server at one time: its id, and which user of that id it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealRef {
    /// Index in the map of real servers; never 0.
    pub id: u16,
    /// Below [`GENERATIONS`].
    pub generation: u16,
}

/// The state of one flow in one word, so that it is read and written whole.
///
/// Bits 0 to 31: the client's last acknowledgement number; 32 to 47: id of the real server;
/// 48 to 61: its generation; 62: an acknowledgement was seen; 63: closing.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Flow(u64);

const ACKNOWLEDGED: u64 = 1 << 62;
const CLOSING: u64 = 1 << 63;

impl Flow {
    /// A flow whose client has acknowledged nothing yet.
    #[must_use]
    #[inline(always)]
    pub const fn new(real: RealRef) -> Self {
        Self(((real.generation & (GENERATIONS - 1)) as u64) << 48 | (real.id as u64) << 32)
    }

    /// The real server it belongs to.
    #[must_use]
    #[inline(always)]
    pub const fn real(self) -> RealRef {
        RealRef { id: (self.0 >> 32) as u16, generation: (self.0 >> 48) as u16 & (GENERATIONS - 1) }
    }

    /// The client's last acknowledgement number: the sequence number at which it expects the server
    /// to go on (RFC 9293, `SND.NXT` of the server). `None` before the first.
    #[must_use]
    #[inline(always)]
    pub const fn acknowledgement(self) -> Option<u32> {
        if self.0 & ACKNOWLEDGED == 0 { None } else { Some(self.0 as u32) }
    }

    /// Whether its last segment carried FIN or RST. A mark, not an end: a RST outside the window
    /// ends nothing.
    #[must_use]
    #[inline(always)]
    pub const fn is_closing(self) -> bool {
        self.0 & CLOSING != 0
    }

    /// The flow after a SYN. A port may have been reused: the new connection's numbers have nothing to
    /// do with those of the one before (RFC 9293, section 3.4.1), so that none of them is kept.
    #[must_use]
    #[inline(always)]
    pub const fn reopened(self) -> Self {
        Self::new(self.real())
    }

    /// The flow after `segment`, which is no SYN.
    #[must_use]
    #[inline(always)]
    pub const fn after(self, segment: Segment) -> Self {
        let mut next = self.0 & !CLOSING;
        if segment.closes {
            next |= CLOSING;
        }
        if segment.acknowledges && !segment.resets && self.advances(segment.acknowledgement) {
            next = next & !(u32::MAX as u64) | segment.acknowledgement as u64 | ACKNOWLEDGED;
        }
        Self(next)
    }

    /// Whether the server has answered since the flow's first acknowledgement: the evidence that
    /// makes a pending flow an established one, which a SYN flood cannot give.
    #[must_use]
    #[inline(always)]
    pub const fn is_answered(self, segment: Segment) -> bool {
        self.0 & ACKNOWLEDGED != 0
            && segment.acknowledges
            && !segment.resets
            && segment.acknowledgement != self.0 as u32
            && self.advances(segment.acknowledgement)
    }

    /// Whether `acknowledgement` is not older than the last (RFC 9293, section 3.4: modulo 2^32).
    #[inline(always)]
    const fn advances(self, acknowledgement: u32) -> bool {
        self.0 & ACKNOWLEDGED == 0 || acknowledgement.wrapping_sub(self.0 as u32) < 1 << 31
    }
}

impl core::fmt::Debug for Flow {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Flow")
            .field("real", &self.real())
            .field("acknowledgement", &self.acknowledgement())
            .field("closing", &self.is_closing())
            .finish()
    }
}

/// What a TCP header says about its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// It opens a connection: SYN alone.
    pub opens: bool,
    /// The acknowledgement number counts.
    pub acknowledges: bool,
    /// It carries FIN or RST.
    pub closes: bool,
    /// It carries RST.
    pub resets: bool,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
}

impl Segment {
    /// Reads a header that a client may send.
    ///
    /// # Errors
    /// The reason to drop a combination of flags that no client sends.
    #[inline(always)]
    pub const fn read(tcp: &Tcp) -> Result<Self, Reason> {
        let flags = tcp.flags & flag::ALL;
        if flags == 0 {
            return Err(Reason::NoFlags);
        }
        if flags == flag::ALL {
            return Err(Reason::AllFlags);
        }
        if flags & flag::SYN != 0 {
            if flags & (flag::FIN | flag::RST) != 0 {
                return Err(Reason::SynFin);
            }
            if flags & flag::ACK != 0 {
                return Err(Reason::SynAck);
            }
        }
        Ok(Self {
            opens: flags & flag::SYN != 0,
            acknowledges: flags & flag::ACK != 0,
            closes: flags & (flag::FIN | flag::RST) != 0,
            resets: flags & flag::RST != 0,
            sequence: u32::from_be_bytes(tcp.sequence),
            acknowledgement: u32::from_be_bytes(tcp.acknowledgement),
        })
    }
}

#[cfg(test)]
mod tests;
