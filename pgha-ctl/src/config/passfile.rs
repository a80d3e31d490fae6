//! libpq's password file (PostgreSQL documentation, "The Password File"): lines of
//! `hostname:port:database:username:password`, where each of the first four is literal or `*`,
//! `\` escapes `:` and `\`, lines that begin with `#` are comments, and the first match counts.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use super::private_file::{self, PrivateFileError};

/// A password. It shows nothing of itself in `Debug` and has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The password itself, to be handed to the server and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(_)")
    }
}

/// The password file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("password file {0}")]
pub struct PassfileError(#[from] PrivateFileError);

/// What a connection is to; libpq compares it as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'w> {
    pub(super) host: &'w str,
    pub(super) port: &'w str,
    pub(super) dbname: &'w str,
    pub(super) user: &'w str,
}

/// The content of the file, if its owner alone may read it (where libpq only warns and ignores
/// the file, this refuses, as a login without password would fail later and say less).
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PassfileError> {
    Ok(private_file::read(path)?)
}

/// The password of the first line that matches.
pub(super) fn lookup(content: &[u8], wanted: &Wanted<'_>) -> Option<Password> {
    content.split(|byte| *byte == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') {
            return None;
        }
        [wanted.host, wanted.port, wanted.dbname, wanted.user]
            .into_iter()
            .try_fold(line, |rest, value| match_field(rest, value.as_bytes()))
            .map(|rest| Password::new(unescape(rest)))
    })
}

/// What follows the first field of `line`, if the field stands for `value`.
fn match_field<'l>(line: &'l [u8], value: &[u8]) -> Option<&'l [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut escaped = false;
    let end = line.iter().position(|byte| {
        let ends = *byte == b':' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    let (field, rest) = line.split_at(end);
    (unescape(field) == value).then_some(rest.get(1..).unwrap_or_default())
}

/// The text with each `\x` as `x`; a backslash at the end stands for itself.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    plain
}
