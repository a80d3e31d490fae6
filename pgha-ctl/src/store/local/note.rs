//! How far a store was when a change was last answered: its incarnation and revision, in one line of the file of
//! the lock.
//!
//! It is written over in place, and is shorter than a sector, which disks write whole: `PostgreSQL` relies on
//! the same for `pg_control` (`src/include/catalog/pg_control.h`, `PG_CONTROL_MAX_SAFE_SIZE`).

use std::fs::File;
use std::io::{self, Read as _};

use super::super::format::Content;
use super::super::record::Mark;

/// What was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Nothing ever.
    Nothing,
    /// This was the last change of the store.
    Mark(Mark),
    /// It may have been anything.
    Unreadable,
}

/// What a store is that is found beside a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// As it was left.
    AsNoted,
    /// One change later: the process ended before it could note that.
    Later,
    /// A backup, or another's: its revisions, and later ones, may have been given out for other values.
    Another,
}

impl Note {
    pub(super) fn read(mut file: &File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Some(line) = bytes.split(|byte| *byte == b'\n').next().filter(|line| !line.is_empty())
        else {
            return Ok(Self::Nothing);
        };
        let mark = str::from_utf8(line).ok().and_then(|line| line.parse().ok());
        Ok(mark.map_or(Self::Unreadable, Self::Mark))
    }

    /// The line, always of the same length, so that one is written over another.
    pub(super) fn of(content: &Content) -> Vec<u8> {
        format!("{}.{:020}\n", content.incarnation, content.revision).into_bytes()
    }

    pub(super) fn judge(self, content: &Content) -> Found {
        let Self::Mark(mark) = self else { return Found::Another };
        if mark.incarnation != content.incarnation {
            return Found::Another;
        }
        match content.revision.checked_sub(mark.revision) {
            Some(0) => Found::AsNoted,
            Some(1) => Found::Later,
            Some(_) | None => Found::Another,
        }
    }
}
