//! What is remembered of a flow, and what each of its segments changes in that.
//!
//! ```text
//!          SYN, or a segment nobody knows           RST nobody knows: nothing
//!                      |
//!                      v
//!                  +-------+   acknowledges more than at first   +-------------+
//!        ACK ----> |pending| ----------------------------------> | established |
//!   (first noted)  +-------+                                     +-------------+
//!                      ^                                             |     ^
//!                      |                                    FIN, RST |     | data, or more of the
//!                      |                                             v     | server's data seen
//!                      |     SYN: the port is used anew       +-----------------+
//!                      +------------------------------------- |    closing      |
//!                        (the closing flow stays until the    +-----------------+
//!                         new one is established)
//! ```
//!
//! A forged FIN, RST or SYN ends nothing: while a closing flow has a successor, that one gets the segments
//! whose numbers it claims ([`Flow::claims`]), and the closing flow all others. A flow that has been closing
//! for a while goes when the table is nearly full.

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
/// Bits 0 to 31: the client's last acknowledgement number, or before the first the sequence number of
/// its SYN; 32 to 43: id of the real server; 44 to 47: since which [`Tick`] it is closing;
/// 48 to 61: generation of the server; 62: an acknowledgement was seen; 63: closing.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Flow(u64);

/// How many ids the word has room for.
pub const IDS: u32 = 1 << 12;
const TICK_AT: u32 = 44;
const ACKNOWLEDGED: u64 = 1 << 62;
const CLOSING: u64 = 1 << 63;
/// A FIN takes one sequence number (RFC 9293, section 3.4): acknowledging it is no sign of going on.
const FIN_LENGTH: u32 = 1;
/// How many bytes a client may send before anything is acknowledged: the widest window that a SYN can
/// offer (RFC 9293, section 3.1).
const FIRST_FLIGHT: u32 = 1 << 16;
/// How many bytes a server may send between two acknowledgements: a window of 16 MiB.
const IN_FLIGHT: u32 = 1 << 24;

impl Flow {
    /// The flow that `segment` begins, whether it opens a connection or this director came late.
    #[must_use]
    #[inline(always)]
    pub const fn new(real: RealRef, segment: Segment) -> Self {
        let generation = (real.generation & (GENERATIONS - 1)) as u64;
        let id = (real.id as u64) & (IDS as u64 - 1);
        let flow = Self(generation << 48 | id << 32 | segment.sequence as u64);
        if segment.opens { flow } else { flow.after(segment) }
    }

    /// The word it is kept as.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The real server it belongs to.
    #[must_use]
    #[inline(always)]
    pub const fn real(self) -> RealRef {
        RealRef {
            id: (self.0 >> 32) as u16 & (IDS as u16 - 1),
            generation: (self.0 >> 48) as u16 & (GENERATIONS - 1),
        }
    }

    /// The client's last acknowledgement number: the sequence number at which it expects the server
    /// to go on (RFC 9293, `SND.NXT` of the server). `None` before the first.
    #[must_use]
    #[inline(always)]
    pub const fn acknowledgement(self) -> Option<u32> {
        if self.0 & ACKNOWLEDGED == 0 { None } else { Some(self.0 as u32) }
    }

    /// The sequence number of the segment it began with; `None` as soon as the client has acknowledged
    /// anything.
    #[must_use]
    #[inline(always)]
    pub const fn first_sequence(self) -> Option<u32> {
        if self.0 & ACKNOWLEDGED == 0 { Some(self.0 as u32) } else { None }
    }

    /// Whether FIN or RST was seen and nothing since that shows it to go on. A mark, not an end: a
    /// RST outside the window ends nothing.
    #[must_use]
    #[inline(always)]
    pub const fn is_closing(self) -> bool {
        self.0 & CLOSING != 0
    }

    /// The same flow, closing since that moment.
    #[must_use]
    #[inline(always)]
    pub const fn closing_since(self, tick: Tick) -> Self {
        Self(self.0 & !((TICKS - 1) << TICK_AT) | (tick.0 as u64) << TICK_AT)
    }

    /// For how many ticks it has been closing, modulo [`TICKS`]; 0 for one that is not.
    #[must_use]
    pub const fn closing_for(self, now: Tick) -> u8 {
        if !self.is_closing() {
            return 0;
        }
        let since = (self.0 >> TICK_AT) & (TICKS - 1);
        (now.0 as u64).wrapping_sub(since) as u8 & (TICKS as u8 - 1)
    }

    /// The flow after a SYN, sent again or on a port used anew: its numbers have nothing to do with
    /// those of a connection before (RFC 9293, section 3.4.1), so that none of them is kept.
    #[must_use]
    #[inline(always)]
    pub const fn reopened(self, segment: Segment) -> Self {
        Self::new(self.real(), segment)
    }

    /// The flow after `segment`, which is no SYN.
    #[must_use]
    #[inline(always)]
    pub const fn after(self, segment: Segment) -> Self {
        let mut next = self.0;
        if segment.closes {
            next |= CLOSING;
        } else if segment.data_length > 0 || self.advance(segment) > FIN_LENGTH {
            next &= !CLOSING;
        }
        if segment.acknowledges && !segment.resets && self.takes(segment) {
            next = next & !(u32::MAX as u64) | segment.acknowledgement as u64 | ACKNOWLEDGED;
        }
        Self(next)
    }

    /// Whether `segment` is of this flow rather than of another connection with the same addresses and
    /// ports: its sequence number follows the SYN, or its acknowledgement the last one (or is a little older:
    /// segments overtake each other).
    #[must_use]
    #[inline(always)]
    pub const fn claims(self, segment: Segment) -> bool {
        let last = self.0 as u32;
        if self.0 & ACKNOWLEDGED == 0 {
            segment.sequence.wrapping_sub(last) < FIRST_FLIGHT
        } else {
            let ahead = segment.acknowledgement.wrapping_sub(last).wrapping_add(FIRST_FLIGHT);
            segment.acknowledges && ahead < IN_FLIGHT + FIRST_FLIGHT
        }
    }

    /// Whether the server has answered since the flow's first acknowledgement: the evidence that
    /// makes a pending flow an established one, which a SYN flood cannot give.
    #[must_use]
    #[inline(always)]
    pub const fn is_answered(self, segment: Segment) -> bool {
        self.0 & ACKNOWLEDGED != 0
            && segment.acknowledges
            && !segment.closes
            && segment.acknowledgement != self.0 as u32
            && segment.acknowledgement.wrapping_sub(self.0 as u32) < IN_FLIGHT
    }

    /// How much more of the server's data `segment` acknowledges; 0 when that is not known.
    #[inline(always)]
    const fn advance(self, segment: Segment) -> u32 {
        let known = self.0 & ACKNOWLEDGED != 0 && segment.acknowledges && !segment.resets;
        if known && self.advances(segment.acknowledgement) {
            segment.acknowledgement.wrapping_sub(self.0 as u32)
        } else {
            0
        }
    }

    /// Whether the acknowledgement of `segment` is the flow's last from now on. Whoever knows the addresses and
    /// ports can forge a FIN, with any number in it: that must be a near one.
    #[inline(always)]
    const fn takes(self, segment: Segment) -> bool {
        let ahead = segment.acknowledgement.wrapping_sub(self.0 as u32);
        self.advances(segment.acknowledgement)
            && (!segment.closes || self.0 & ACKNOWLEDGED == 0 || ahead < IN_FLIGHT)
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

/// A coarse clock, of which four bits are enough: how long a flow has been closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick(u8);

/// How many ticks there are before the first comes again.
pub const TICKS: u64 = 1 << 4;

impl Tick {
    /// The tick at a moment of `CLOCK_BOOTTIME`, in nanoseconds: one lasts 2^36 of these, 69 s.
    #[must_use]
    #[inline(always)]
    pub const fn at(boot_time: u64) -> Self {
        Self((boot_time >> 36 & (TICKS - 1)) as u8)
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
    /// How many bytes of data it carries.
    pub data_length: u32,
}

impl Segment {
    /// A SYN, and nothing else.
    #[must_use]
    pub const fn opening() -> Self {
        Self { opens: true, acknowledges: false, ..Self::acknowledging(0) }
    }

    /// A segment that only acknowledges, everything before that number.
    #[must_use]
    #[inline(always)]
    pub const fn acknowledging(acknowledgement: u32) -> Self {
        Self {
            opens: false,
            acknowledges: true,
            closes: false,
            resets: false,
            sequence: 0,
            acknowledgement,
            data_length: 0,
        }
    }

    /// Reads a header that a client may send, with so many bytes of data behind it.
    ///
    /// # Errors
    /// The reason to drop a combination of flags that no client sends.
    #[inline(always)]
    pub const fn read(tcp: &Tcp, data_length: u32) -> Result<Self, Reason> {
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
            data_length,
        })
    }
}

#[cfg(test)]
mod tests;
