//! Timelines: what their history files say, and which there must be for a promotion to begin the timeline that was
//! ordered.
//!
//! PostgreSQL takes one more than the newest timeline that it knows of, and to find that it looks for history
//! files from its own timeline on, one number after the other, until one is missing (`findNewestTimeLine`). So
//! where a higher number is ordered, files of the numbers between must be there. A standby that follows asks for
//! each of them, too (`WalRcvFetchTimeLineHistoryFiles`), and gives up where one is missing.
//!
//! What such a file says must not lead anybody onto that timeline. A history without parents does not: a standby
//! that has it finds that it is no child of its own timeline and stays (`rescanLatestTimeLine`), and with the file
//! of the timeline that was begun it never reads this one again. One thing remains: a server that *starts* while
//! such a file is the newest refuses ("requested timeline is not a child of this server's history"). It can be the
//! newest only after an interruption, and is removed before each start ([`Histories::unused`]).

use std::collections::BTreeMap;

use pgha_machine::{Lsn, Position, Timeline, Wal};

#[cfg(test)]
mod tests;

/// By which a file that fills a gap is known.
const NOBODY: &str = "# pgha: nobody was ever on this timeline";

/// Histories that do not allow what is to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// A file that PostgreSQL would not read either.
    #[error("{name} says {line:?}, which is no line of a history: take the file of another node", name = file_name(*.timeline))]
    Line {
        /// Whose.
        timeline: Timeline,
        /// What.
        line: String,
    },
    /// The number is taken, or lower than one that is.
    #[error(
        "timeline {ordered} was ordered, but timeline {newest} is known here: PostgreSQL would begin one above that"
    )]
    Taken {
        /// Which was ordered.
        ordered: Timeline,
        /// Which is known.
        newest: Timeline,
    },
    /// No file of the log holds a position.
    #[error("no WAL file here holds {0}")]
    NoFile(Lsn),
}

/// The name of a timeline's file in `pg_wal`.
pub(super) fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.get())
}

/// Which timeline's history a file of that name is.
fn timeline_of(name: &str) -> Option<Timeline> {
    let digits = name.strip_suffix(".history").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(Timeline::new)
}

/// Whether a file of that name has WAL.
pub(super) fn is_wal_file(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a file of that name has WAL of that timeline, or began to (`.partial`).
pub(super) fn is_file_of(name: &str, timeline: Timeline) -> bool {
    let name = name.strip_suffix(".partial").unwrap_or(name);
    is_wal_file(name) && name.starts_with(&format!("{:08X}", timeline.get()))
}

/// The timeline and the number of the WAL file of that name, with 2^32 bytes in `per_id` files.
fn segment_of(name: &str, per_id: u64) -> Option<(Timeline, u64)> {
    let part = |range| u32::from_str_radix(name.get(range)?, 16).ok();
    let (timeline, id, number) =
        is_wal_file(name).then(|| Some((part(0..8)?, part(8..16)?, part(16..24)?))).flatten()?;
    Some((Timeline::new(timeline), u64::from(id) * per_id + u64::from(number)))
}

/// What `pg_wal` says of timelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histories {
    /// The text of each history file.
    files: BTreeMap<Timeline, String>,
    /// The newest timeline that has a WAL file of that number.
    newest: BTreeMap<u64, Timeline>,
    /// Bytes in a WAL file.
    segment: u64,
}

impl Histories {
    /// By the names of the files in `pg_wal`, of which those of histories are read.
    pub(super) fn read<E>(
        names: impl IntoIterator<Item = String>,
        segment: u64,
        text: impl Fn(&str) -> Result<String, E>,
    ) -> Result<Self, E> {
        let mut histories = Self { segment, ..Self::default() };
        for name in names {
            if let Some(timeline) = timeline_of(&name) {
                histories.files.insert(timeline, text(&name)?);
            } else if let Some((timeline, number)) = segment_of(&name, (1 << 32) / segment) {
                let newest = histories.newest.entry(number).or_insert(timeline);
                *newest = timeline.max(*newest);
            }
        }
        Ok(histories)
    }

    /// Where what is there of the log begins.
    pub(super) fn begins(&self) -> Option<Lsn> {
        self.newest.keys().next().map(|number| Lsn::new(number * self.segment))
    }

    /// Where a timeline's history says that each of its parents was left, the oldest first.
    pub(super) fn left(&self, timeline: Timeline) -> Result<Vec<Position>, HistoryError> {
        let Some(text) = self.files.get(&timeline) else { return Ok(Vec::new()) };
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let mut left = lines
            .map(|line| {
                let mut words = line.split_whitespace();
                let parent = words.next().and_then(|word| word.parse().ok());
                let lsn = words.next().and_then(|word| word.parse().ok());
                let wrong = || HistoryError::Line { timeline, line: line.to_owned() };
                let (parent, lsn) = parent.zip(lsn).ok_or_else(wrong)?;
                Ok(Position { timeline: Timeline::new(parent), lsn })
            })
            .collect::<Result<Vec<_>, HistoryError>>()?;
        // One may have been left before its WAL was received up to where its own parent says.
        let mut least = Lsn::new(u64::MAX);
        for position in left.iter_mut().rev() {
            least = least.min(position.lsn);
            position.lsn = least;
        }
        Ok(left)
    }

    /// The log of a primary that writes that timeline.
    pub(super) fn written(&self, timeline: Timeline, end: Lsn) -> Result<Wal, HistoryError> {
        let left = self.left(timeline)?;
        Ok(Wal { end: Position { timeline, lsn: end }, left })
    }

    /// The log of a standby that ends there: on the newest timeline that has the file with its last byte, or
    /// on that one's parent where it had not come to the fork.
    pub(super) fn received(&self, end: Lsn) -> Result<Wal, HistoryError> {
        let last = end.bytes().saturating_sub(1) / self.segment;
        let newest = *self.newest.get(&last).ok_or(HistoryError::NoFile(end))?;
        let mut left = self.left(newest)?;
        let forks = left.iter().position(|parent| end <= parent.lsn);
        let timeline = forks.and_then(|at| left.get(at)).map_or(newest, |parent| parent.timeline);
        left.truncate(forks.unwrap_or(left.len()));
        Ok(Wal { end: Position { timeline, lsn: end }, left })
    }

    /// The files that there must be besides so that a promotion begins `ordered`, for a log that is on `from`.
    pub(super) fn missing(
        &self,
        from: Timeline,
        ordered: Timeline,
    ) -> Result<BTreeMap<Timeline, String>, HistoryError> {
        let known = self.files.keys().next_back().copied().unwrap_or(from).max(from);
        if ordered <= known {
            return Err(HistoryError::Taken { ordered, newest: known });
        }
        let own = self.left(from)?;
        let missing = (2..ordered.get())
            .map(Timeline::new)
            .filter(|timeline| !self.files.contains_key(timeline));
        Ok(missing.map(|timeline| (timeline, filling(timeline, &own))).collect())
    }

    /// Those that fill gaps below a timeline that was never begun.
    pub(super) fn unused(&self) -> Vec<Timeline> {
        let written = self.newest.values().max();
        let last = |(timeline, _): &(&Timeline, &String)| written.is_none_or(|w| *timeline > w);
        let gaps = |(_, text): &(&Timeline, &String)| text.starts_with(NOBODY);
        let unused = self.files.iter().rev().take_while(last).take_while(gaps);
        unused.map(|(timeline, _)| *timeline).collect()
    }
}

/// The history of a timeline that has no file: known, where it is a parent of one that has.
fn filling(timeline: Timeline, left: &[Position]) -> String {
    if left.iter().all(|parent| parent.timeline != timeline) {
        return format!("{NOBODY}\n");
    }
    let parents = left.iter().take_while(|parent| parent.timeline < timeline);
    parents
        .map(|p| format!("{}\t{}\tpgha: as the timelines after it say\n", p.timeline, p.lsn))
        .collect()
}
