//! The file of a local store: magic, version, SHA-256 of the rest, and the rest, everything in big-endian
//! byte order.
//!
//! ```text
//! "pghastor"  version u32  sha256 [32]
//! incarnation [16]  revision u64  records u32
//! for each: key length u16, key, revision u64, value length u32, value
//! ```
//!
//! The whole is written for every change. It is small, and there is no log that could be cut or would
//! have to be compacted. SHA-256 rather than a CRC: what it guards will say who may accept writes.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};

use super::record::{Incarnation, Key, MAX_VALUE, Mark, Reading, Revision};

const MAGIC: &[u8; 8] = b"pghastor";
const VERSION: u32 = 1;
/// Magic, version, checksum.
const HEAD: usize = 8 + 4 + 32;

/// The most records of a store.
pub(super) const MAX_RECORDS: usize = 1024;
/// The most bytes of keys and values together: the whole is held in memory, and written for every change.
pub(super) const MAX_SIZE: usize = 16 * 1024 * 1024;

/// Everything in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) incarnation: Incarnation,
    /// How many changes there were.
    pub(super) revision: Revision,
    records: BTreeMap<Key, Record>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    revision: Revision,
    value: Vec<u8>,
}

/// Why bytes are no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Cut within the head, or somebody else's.
    #[error("it does not begin as a store does")]
    Magic,
    /// Of a newer pgha.
    #[error("it has version {0}, and this pgha knows version {VERSION}")]
    Version(u32),
    /// A bit fell over, or the end is missing.
    #[error("its checksum is wrong")]
    Checksum,
    /// The checksum is right, so pgha wrote this and should not have.
    #[error("its records cannot be told apart")]
    Records,
}

impl Content {
    /// A store that nobody has written to.
    pub(super) const fn empty(incarnation: Incarnation) -> Self {
        Self { incarnation, revision: 0, records: BTreeMap::new() }
    }

    /// The same records, in a store of its own.
    pub(super) fn in_another(self, incarnation: Incarnation) -> Self {
        Self { incarnation, ..self }
    }

    pub(super) fn mark(&self, key: &Key) -> Mark {
        let revision = self.records.get(key).map_or(0, |record| record.revision);
        Mark { incarnation: self.incarnation, revision }
    }

    pub(super) fn reading(&self, key: &Key) -> Reading {
        let value = self.records.get(key).map(|record| record.value.clone());
        Reading { mark: self.mark(key), value }
    }

    /// As it is after one more change.
    pub(super) fn with(&self, key: &Key, value: Vec<u8>) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        next.records.insert(key.clone(), Record { revision: next.revision, value });
        next
    }

    /// Records and bytes, where a store would be larger than it may be, and larger than it was.
    pub(super) fn outgrows(&self, before: &Self) -> Option<(usize, usize)> {
        let (records, bytes) = (self.records.len(), self.size());
        let many = records > MAX_RECORDS && records > before.records.len();
        let large = bytes > MAX_SIZE && bytes > before.size();
        (many || large).then_some((records, bytes))
    }

    /// Bytes of keys and values.
    fn size(&self) -> usize {
        self.records.iter().map(|(key, record)| key.as_str().len() + record.value.len()).sum()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(self.incarnation.bytes());
        body.extend_from_slice(&self.revision.to_be_bytes());
        body.extend_from_slice(&length(self.records.len()).to_be_bytes());
        for (key, record) in &self.records {
            let key = key.as_str().as_bytes();
            // Keys are short by construction, so the upper half of a length is 0.
            body.extend_from_slice(&length(key.len()).to_be_bytes()[2..]);
            body.extend_from_slice(key);
            body.extend_from_slice(&record.revision.to_be_bytes());
            body.extend_from_slice(&length(record.value.len()).to_be_bytes());
            body.extend_from_slice(&record.value);
        }
        let checksum = digest(&SHA256, &body);
        [MAGIC, &VERSION.to_be_bytes()[..], checksum.as_ref(), &body].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut head = Reader(bytes);
        if head.take(MAGIC.len()) != Some(MAGIC) {
            return Err(FormatError::Magic);
        }
        let version = head.number().ok_or(FormatError::Magic)?;
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let (checksum, body) =
            head.0.split_at_checked(HEAD - MAGIC.len() - 4).ok_or(FormatError::Magic)?;
        if digest(&SHA256, body).as_ref() != checksum {
            return Err(FormatError::Checksum);
        }
        Self::records(Reader(body)).ok_or(FormatError::Records)
    }

    fn records(mut body: Reader<'_>) -> Option<Self> {
        let incarnation = Incarnation::from_bytes(body.array()?);
        let revision = u64::from_be_bytes(body.array()?);
        let mut records = BTreeMap::new();
        for _ in 0..body.number()? {
            let length = u16::from_be_bytes(body.array()?);
            let key = str::from_utf8(body.take(length.into())?).ok()?.parse().ok()?;
            let written = u64::from_be_bytes(body.array()?);
            let length =
                usize::try_from(body.number()?).ok().filter(|length| *length <= MAX_VALUE)?;
            let value = body.take(length)?.to_vec();
            let sound = (1..=revision).contains(&written);
            let new = records.insert(key, Record { revision: written, value }).is_none();
            if !sound || !new {
                return None;
            }
        }
        body.0.is_empty().then_some(Self { incarnation, revision, records })
    }
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("values are bounded, and a store of 4 GiB is none of ours")
}

/// What is left to be read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}
