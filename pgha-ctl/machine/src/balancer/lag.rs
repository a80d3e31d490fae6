//! How far a standby lags behind the primary, and when that is too far.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::{LagLimits, Limit};
use super::event::Walsender;
use super::member::Standby;
use crate::{Lsn, Moment};

/// How far a standby is behind. What is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lag {
    /// Bytes of WAL that it has not replayed.
    pub(super) bytes: Option<u64>,
    /// How long what its readers see has been out of date.
    pub(super) time: Option<Duration>,
}

/// Where the end of the primary's WAL was at which moment, so that lag in time needs no clock but this
/// controller's: a standby that has not replayed what was written ten seconds ago lags ten seconds.
///
/// The standby's own `now() - pg_last_xact_replay_timestamp()` grows while nobody writes, and compares two
/// hosts' clocks.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The oldest first; both numbers rise from each to the next.
    samples: VecDeque<(Moment, Lsn)>,
}

/// How many samples are kept: the memory reaches far back, and tells old things less exactly.
const SAMPLES: usize = 256;
/// To which part of their age gaps are compared.
const GAPS: u128 = 1 << 20;

impl Written {
    /// Notes an answer of the primary.
    pub(super) fn note(&mut self, now: Moment, end: Lsn) {
        if self.samples.back().is_some_and(|(_, last)| end <= *last) {
            return;
        }
        self.samples.push_back((now, end));
        if self.samples.len() > SAMPLES {
            self.thin_out(now);
        }
    }

    /// Forgets the sample without which the gap between its neighbours is the smallest for its age.
    fn thin_out(&mut self, now: Moment) {
        let gap = |index: usize| {
            let (before, after) = (self.samples[index - 1].0, self.samples[index + 1].0);
            after.since(before).as_millis() * GAPS / now.since(before).as_millis().max(1)
        };
        if let Some(index) = (1..self.samples.len().saturating_sub(1)).min_by_key(|i| gap(*i)) {
            self.samples.remove(index);
        }
    }

    /// The end of the WAL by the last answer.
    fn end(&self) -> Option<Lsn> {
        self.samples.back().map(|(_, end)| *end)
    }

    /// Measures a standby at the moment of its check, by answers that came before. `walsender` is what the
    /// primary says of it.
    pub(super) fn measure(
        &self,
        now: Moment,
        standby: &Standby,
        walsender: Option<&Walsender>,
    ) -> Lag {
        let (Some(replayed), Some(end)) = (standby.replayed, self.end()) else {
            return Lag::default();
        };
        let missing = self.samples.iter().position(|(_, end)| *end > replayed);
        let time = match missing.map(|index| (index, self.samples[index].0)) {
            None => Some(Duration::ZERO),
            Some((0, oldest)) => {
                // It is behind all that this controller has seen: only others know since when.
                let told = walsender.and_then(|walsender| walsender.replay_lag).or(standby.age);
                told.map(|told| told.max(now.since(oldest)))
            }
            Some((_, written)) => Some(now.since(written)),
        };
        Lag { bytes: Some(replayed.behind(end)), time }
    }
}

/// Where there is no primary to compare with: a standby that has replayed all it received, and still
/// receives, is up to date as far as anybody can tell.
pub(super) fn by_itself(standby: &Standby) -> Lag {
    let caught_up =
        standby.receiving && standby.replayed.is_some_and(|r| standby.received <= Some(r));
    Lag { bytes: None, time: if caught_up { Some(Duration::ZERO) } else { standby.age } }
}

impl LagLimits {
    /// Whether a server that was (or was not) withheld for its lag is now. A measure that is not known
    /// changes nothing.
    pub(super) fn lagging(&self, lag: Lag, was: bool) -> bool {
        let bytes = self.bytes.map(|limit| side(limit, lag.bytes));
        let time = self.time.map(|limit| side(limit, lag.time));
        let sides = || [bytes, time].into_iter().flatten();
        if sides().any(|side| side == Side::Beyond) {
            return true;
        }
        was && sides().any(|side| matches!(side, Side::Between | Side::Unknown))
    }

    /// What a server keeps of its weight, in thousandths: all of it without lag, a tenth at the limit, in
    /// proportion between.
    pub(super) fn part(&self, lag: Lag) -> u32 {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bytes = self.bytes.zip(lag.bytes).map(|(limit, lag)| part(lag, limit.drain));
        let time = self.time.zip(lag.time);
        let time = time.map(|(limit, lag)| part(millis(lag), millis(limit.drain)));
        bytes.into_iter().chain(time).min().unwrap_or(FULL)
    }
}

/// All of a weight, in thousandths.
pub(super) const FULL: u32 = 1_000;
/// The least that anything automatic leaves of a weight, in thousandths.
pub(super) const LEAST: u32 = 100;

fn part(lag: u64, limit: u64) -> u32 {
    let loss = u128::from(FULL - LEAST) * u128::from(lag.min(limit)) / u128::from(limit.max(1));
    FULL - u32::try_from(loss).unwrap_or(FULL - LEAST)
}

/// On which side of a limit a measure is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Beyond,
    Between,
    Within,
    Unknown,
}

fn side<T: Copy + Ord>(limit: Limit<T>, measure: Option<T>) -> Side {
    match measure {
        Some(measure) if measure > limit.drain => Side::Beyond,
        Some(measure) if measure > limit.back => Side::Between,
        Some(_) => Side::Within,
        None => Side::Unknown,
    }
}

#[cfg(test)]
mod tests;
