use std::fmt;
use std::str::FromStr;

/// The hardware address of one interface: six bytes, never the zero address, never a group address
/// (IEEE 802, bit 0 of the first byte).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// `None` for the zero address and for group (multicast, broadcast) addresses: no single
    /// interface has one.
    #[must_use]
    pub fn new(bytes: [u8; 6]) -> Option<Self> {
        (bytes != [0; 6] && bytes[0] & 1 == 0).then_some(Self(bytes))
    }

    /// The six bytes in the order they are sent.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not the hardware address of one interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the MAC address of an interface (such as 52:54:00:12:34:56)")]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        let written = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let complete = bytes.iter_mut().all(|byte| {
            parts
                .next()
                .filter(written)
                .is_some_and(|part| u8::from_str_radix(part, 16).map(|value| *byte = value).is_ok())
        });
        (complete && parts.next().is_none())
            .then(|| Self::new(bytes))
            .flatten()
            .ok_or_else(|| ParseMacError(text.to_owned()))
    }
}
