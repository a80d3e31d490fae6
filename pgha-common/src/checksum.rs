//! The Internet checksum (RFC 1071), and its update (RFC 1624).

/// 16-bit words added without carry: enough for 65,536 of them.
pub type Sum = u32;

/// One word, as it lies in a frame.
#[must_use]
#[inline(always)]
pub const fn word(bytes: [u8; 2]) -> Sum {
    u16::from_be_bytes(bytes) as Sum
}

/// The two words of four bytes.
#[must_use]
#[inline(always)]
pub const fn sum4(bytes: [u8; 4]) -> Sum {
    let value = u32::from_be_bytes(bytes);
    (value >> 16) + (value & 0xffff)
}

/// The checksum of everything that was added.
#[must_use]
#[inline(always)]
pub const fn finish(sum: Sum) -> [u8; 2] {
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

/// The checksum after one word changed (RFC 1624, equation 3). What was wrong stays wrong.
///
/// Of the two ways to write a sum of nothing it gives all ones, which every receiver takes: where everything
/// else is zero, all zeros would not check.
#[must_use]
#[inline(always)]
pub const fn updated(checksum: [u8; 2], before: [u8; 2], after: [u8; 2]) -> [u8; 2] {
    let updated = finish(inverse_of(checksum) + inverse_of(before) + word(after));
    if u16::from_be_bytes(updated) == 0 { [0xff; 2] } else { updated }
}

#[inline(always)]
const fn inverse_of(bytes: [u8; 2]) -> Sum {
    0xffff - word(bytes)
}

#[cfg(test)]
mod tests;
