//! The words of a store.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom as _, SystemRandom};

/// The longest value, in bytes.
pub const MAX_VALUE: usize = 1024 * 1024;
/// The longest key, in bytes.
pub(super) const MAX_KEY: usize = 128;

/// The name of a record: 1 to 128 of `a` to `z`, `0` to `9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no key (1 to {MAX_KEY} of a-z, 0-9, '-' and '_')")]
pub struct ParseKeyError(String);

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal =
            |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
        let fits = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(legal);
        if fits { Ok(Self(text.to_owned())) } else { Err(ParseKeyError(text.to_owned())) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which making of a store this is: drawn when it is made, so that a new one is not taken for the old.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// Draws one.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub(super) fn draw() -> Result<Self, ring::error::Unspecified> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many changes a store had seen when a record was last written, that one included. 0: there is none.
pub type Revision = u64;

/// What was read, told apart from everything else that was or will be there. As text, and as an HTTP
/// entity tag: incarnation, `.`, revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Of the store.
    pub incarnation: Incarnation,
    /// Of the record.
    pub revision: Revision,
}

impl Mark {
    /// Whether what is marked was written later than the other. A store made anew is later than any.
    #[must_use]
    pub fn is_after(self, other: Self) -> bool {
        self.incarnation != other.incarnation || self.revision > other.revision
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.revision)
    }
}

/// A text that is no mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mark of a record (32 hexadecimal digits, '.', a number)")]
pub struct ParseMarkError(String);

impl FromStr for Mark {
    type Err = ParseMarkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (digits, revision) = text.split_once('.')?;
            let plain = |text: &str| text.bytes().all(|c| c.is_ascii_hexdigit());
            if digits.len() != 32 || !plain(digits) || !plain(revision) {
                return None;
            }
            let mut bytes = [0; 16];
            for (byte, digits) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
            }
            Some(Self { incarnation: Incarnation(bytes), revision: revision.parse().ok()? })
        };
        parse().ok_or_else(|| ParseMarkError(text.to_owned()))
    }
}

/// What is under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it is known by.
    pub mark: Mark,
    /// `None` where the revision is 0: nothing was ever put.
    pub value: Option<Vec<u8>>,
}
