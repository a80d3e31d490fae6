//! The lease gate: whether what PostgreSQL sends and receives over TCP may pass, for one of its starts.
//!
//! All that a gate knows is one word. It says [`STANDBY`], or the moment up to which packets pass, or
//! [`CLOSED`]. The kernel's program alone writes it: user space has no right to (the map is frozen), and only
//! *asks* for a change, by an order that the program judges at the moment it carries it out.
//!
//! ```text
//!             arm(u), now < u                  arm(v), now < u, now < v: later or earlier
//!  STANDBY ───────────────────▶ until u ◀─┐
//!     │                            │ └────┘
//!     │ close, or arm(u), u <= now │ a packet or any order once u <= now; close; arm(v), v <= now
//!     └────────────▶ CLOSED ◀──────┘
//! ```
//!
//! **Why a closed gate never opens again**, in whatever order CPUs write: every write replaces the word by
//! compare-and-exchange, so it is a step of the diagram from just the word that was judged, and no step leaves
//! `CLOSED` or leads back to `STANDBY`. An order that finds the former moment passed closes the gate, also
//! where no packet came in between to do it. So "expired" and "closed" are the same from that moment on. An
//! order that is under way at the moment counts if all of it was before; otherwise it closes the gate again.

#[cfg(test)]
mod tests;

/// The word of a standby's gate, open for good until it is armed. A gate begins so.
pub const STANDBY: u64 = 0;
/// The word of a gate that is closed for good.
pub const CLOSED: u64 = u64::MAX;

/// How often an order is judged anew when another CPU changed the word meanwhile. Only packets of a gate that
/// closes, and other orders, change it.
const TRIES: u32 = 4;

/// Names of what the object `gate` has.
pub mod name {
    /// The one word.
    pub const WORD: &str = "GATE";
    /// [`super::Passage`], per CPU.
    pub const PASSAGE: &str = "PASSAGE";
    /// The program on the cgroup, for both directions.
    pub const PROGRAM: &str = "pgha_gate";
    /// The program that carries out orders; it is on no cgroup.
    pub const ORDER: &str = "pgha_gate_order";
}

/// Packets over TCP that came to the gate on one CPU.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct Passage {
    /// Let through.
    pub passed: u64,
    /// Dropped.
    pub dropped: u64,
}

/// The word of a gate, and the clock it goes by.
pub trait Gate {
    /// The word as it is now.
    fn word(&self) -> u64;

    /// Replaces the word if it is still `before`, in one step for all CPUs; whether it was.
    fn replace(&self, before: u64, after: u64) -> bool;

    /// Nanoseconds of `CLOCK_BOOTTIME`. It never goes back, and counts while the machine is suspended.
    fn now(&self) -> u64;
}

/// Whether a packet over TCP passes now. Closes the gate if its moment has passed.
#[inline(always)]
pub fn admits(gate: &impl Gate) -> bool {
    let word = gate.word();
    // The clock is read after the word, so that what passes does so before the moment.
    if word == STANDBY || !is_over(word, gate.now()) {
        return true;
    }
    // Where an order was quicker, it counts for the packets after this one.
    gate.replace(word, CLOSED);
    false
}

/// Carries out an order: `wanted` is [`CLOSED`], or the moment up to which packets are to pass. `false` when
/// other CPUs changed the word each time, so that nothing was done. What became of it is in the word.
///
/// The clock is read again at the end: an order that was held up on its way until the former moment had passed
/// closes the gate like one that came later.
#[inline(always)]
pub fn order(gate: &impl Gate, mut wanted: u64) -> bool {
    for _ in 0..TRIES {
        let word = gate.word();
        let after = next(word, wanted, gate.now());
        if !gate.replace(word, after) {
            continue;
        }
        if after == CLOSED || !is_over(word, gate.now()) {
            return true;
        }
        // Others may have gone on from it meanwhile: whatever they made of it is closed.
        wanted = CLOSED;
    }
    false
}

/// The word after an order.
#[inline(always)]
const fn next(word: u64, wanted: u64, now: u64) -> u64 {
    if is_over(word, now) || wanted <= now { CLOSED } else { wanted }
}

/// Whether nothing passes any more under this word.
#[inline(always)]
const fn is_over(word: u64, now: u64) -> bool {
    word != STANDBY && (word == CLOSED || word <= now)
}

/// Whether a packet is of concern, by the first byte of its IP header and by that which names the protocol.
///
/// Only what is certainly something else than TCP is not: UDP (name service; the statistics of PostgreSQL 13
/// and 14 over the loopback interface) and ICMP. So TCP behind extension headers is held like any other.
#[must_use]
#[inline(always)]
pub const fn concerns(version_byte: u8, protocol: u8) -> bool {
    const ICMP: u8 = 1;
    const UDP: u8 = 17;
    const ICMPV6: u8 = 58;
    match version_byte >> 4 {
        4 => !matches!(protocol, ICMP | UDP),
        6 => !matches!(protocol, ICMPV6 | UDP),
        _ => true,
    }
}

const _: () = assert!(size_of::<Passage>() == 16);
