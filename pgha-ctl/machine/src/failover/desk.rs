//! How a machine reads and writes the record: one request at a time, and after an answer that tells nothing
//! it reads before it does anything else.

#[cfg(test)]
mod tests;

use super::message::Reading;
use super::record::{Progress, Record};
use super::rules::{Rule, Rules};
use crate::{Mark, Moment};

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Written {
    /// It is there, and this is what it is known by.
    Done(u64),
    /// Something else is there.
    Conflict,
    /// It was not written: the store cannot be reached.
    Failed,
    /// It was written or not.
    Unknown,
}

/// What the store answers, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// [`Request::Read`] was answered; `None`: the store cannot be reached.
    Read(Option<Reading>),
    /// The record has changed.
    Changed(Reading),
    /// [`Request::Put`] was answered.
    Written(Written),
}

/// What to ask of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read the record.
    Read,
    /// Put a record where the one with that mark is.
    Put {
        /// What must be there.
        expected: Mark,
        /// What shall be.
        record: Box<Record>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Reading,
    Writing { sent: Moment, record: Box<Record> },
}

/// The record as it was seen last, and what was asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Desk {
    rules: Rules,
    seen: Option<Mark>,
    /// How far the record had come when it was seen last, also before the start.
    progress: Progress,
    record: Option<Record>,
    state: State,
    /// The record may be another by now.
    stale: bool,
    /// The last answer of the store, and when it came.
    answered: Option<(Moment, bool)>,
}

impl Desk {
    /// A desk that believes nothing older than what was `seen` before, when the record had come so far.
    pub(super) const fn new(seen: Option<Mark>, progress: Progress, rules: Rules) -> Self {
        Self {
            rules,
            seen,
            progress,
            record: None,
            state: State::Idle,
            stale: true,
            answered: None,
        }
    }

    /// The record, where it was read since the start.
    pub(super) const fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The newest state that was seen, also before the start.
    pub(super) const fn seen(&self) -> Option<Mark> {
        self.seen
    }

    /// Whether the last request was answered; `None` before the first.
    pub(super) fn reachable(&self) -> Option<bool> {
        self.answered.map(|(_, reachable)| reachable)
    }

    /// Whether nothing is under way and the record is what was read last.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state, State::Idle) && !self.stale && self.record.is_some()
    }

    /// Somebody has seen a newer state.
    pub(super) fn outdated_by(&mut self, revision: u64) {
        self.stale |= self.seen.is_none_or(|seen| seen.revision < revision);
    }

    /// The record may be another by now.
    pub(super) const fn doubt(&mut self) {
        self.stale = true;
    }

    /// What is to be read, where something is: the record is stale, or it was read longer ago than `every`.
    pub(super) fn poll(&mut self, now: Moment, every: std::time::Duration) -> Option<Request> {
        let due = self.due(every).is_none_or(|due| now >= due);
        if self.state != State::Idle || !due {
            return None;
        }
        self.state = State::Reading;
        Some(Request::Read)
    }

    /// When the record is to be read again; `None`: now.
    pub(super) fn due(&self, every: std::time::Duration) -> Option<Moment> {
        let (at, reachable) = self.answered?;
        // A store that does not answer is not asked without end.
        if self.stale && reachable { None } else { Some(at + every) }
    }

    /// Puts `record` in the place of the one that was read last. Only where [`Self::is_ready`].
    pub(super) fn put(&mut self, now: Moment, record: Record) -> Option<Request> {
        let expected = self.seen.filter(|_| self.is_ready())?;
        self.state = State::Writing { sent: now, record: Box::new(record.clone()) };
        Some(Request::Put { expected, record: Box::new(record) })
    }

    /// Takes in what the store said. Returns the record and when it was sent, where it is there now.
    pub(super) fn take(&mut self, now: Moment, answer: Answer) -> Option<(Moment, Record)> {
        match answer {
            Answer::Read(reading) => self.read(now, reading, true),
            Answer::Changed(reading) => self.read(now, Some(reading), false),
            Answer::Written(written) => return self.written(now, written),
        }
        None
    }

    /// The record was read, asked for or not; `None`: it cannot be.
    ///
    /// An older state than one that was seen, one of another store, or one that has come less far is refused (S5).
    fn read(&mut self, now: Moment, reading: Option<Reading>, asked: bool) {
        if asked && self.state == State::Reading {
            self.state = State::Idle;
        }
        let Some(reading) = reading else {
            self.answered = Some((now, false));
            self.stale = true;
            return;
        };
        // A store that was restored counts on from where its backup was made, and may have passed what was seen.
        let progress = reading.record.as_deref().map(Record::progress).unwrap_or_default();
        let believed = self.seen.is_none_or(|seen| seen.admits(reading.mark))
            && self.progress.admits(progress);
        if self.rules.hold(Rule::S5) && !believed {
            // Asked for, it is no answer to rely on.
            if asked {
                self.answered = Some((now, false));
            }
            return;
        }
        if asked {
            self.answered = Some((now, true));
            self.stale = false;
        }
        self.seen = Some(reading.mark);
        self.progress = progress;
        self.record = reading.record.map(|record| *record);
    }

    /// What became of the write.
    fn written(&mut self, now: Moment, written: Written) -> Option<(Moment, Record)> {
        let State::Writing { sent, record } = std::mem::replace(&mut self.state, State::Idle)
        else {
            return None;
        };
        self.answered = Some((now, matches!(written, Written::Done(_) | Written::Conflict)));
        match (written, self.seen) {
            // A newer state may have been heard of in the meantime.
            (Written::Done(revision), Some(seen)) => {
                if seen.revision < revision {
                    self.seen = Some(Mark { revision, ..seen });
                    self.progress = record.progress();
                    self.record = Some((*record).clone());
                }
                Some((sent, *record))
            }
            (Written::Done(_), None)
            | (Written::Conflict | Written::Failed | Written::Unknown, _) => {
                self.stale = true;
                None
            }
        }
    }

    /// What is being written.
    pub(super) const fn writing(&self) -> Option<&Record> {
        match &self.state {
            State::Writing { record, .. } => Some(record),
            State::Idle | State::Reading => None,
        }
    }
}
