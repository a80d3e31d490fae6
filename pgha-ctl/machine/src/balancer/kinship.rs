//! Whether a standby's data is the primary's: of the same cluster, and on its line of history.

use super::event::PrimaryAnswer;
use super::member::Standby;
use super::primary::Claim;
use super::withheld::Withheld;
use crate::{Lsn, Timeline};

/// What is known of a standby's descent.
///
/// An answer of the primary proves something of a standby only if it was asked *after* the standby was: both
/// go on writing meanwhile. The primary is asked one question after the other, so the second answer that
/// comes in after a check was asked later than the check ended; the first may have been under way.
#[derive(Debug, Default)]
pub(super) struct Kinship {
    /// Its system identifier.
    system: Option<u64>,
    /// The timeline it was on when it was asked last.
    timeline: Option<Timeline>,
    /// A position to be compared with the primary's, and how many answers the primary had given then.
    pending: Option<(Position, u64)>,
    diverged: bool,
}

/// The end of somebody's WAL.
#[derive(Clone, Copy, Debug)]
struct Position {
    end: Option<Lsn>,
    timeline: Option<Timeline>,
}

/// How many answers later the primary was surely asked after a check.
const LATER: u64 = 2;

impl Kinship {
    /// Takes in a check. `answers` is how many answers the primary has given, `primary` the last of them
    /// while it answers.
    pub(super) fn checked(
        &mut self,
        standby: &Standby,
        answers: u64,
        primary: Option<&PrimaryAnswer>,
    ) {
        self.system = standby.system.or(self.system);
        self.timeline = standby.timeline.or(self.timeline);
        if let Some(primary) = primary
            && standby.receiving
            && standby.timeline.is_some()
            && standby.timeline == primary.timeline
        {
            // Nobody streams beyond the point where the histories part.
            self.diverged = false;
        }
        let end = standby.replayed.max(standby.received);
        if self.pending.is_none() {
            self.pending = Some((Position { end, timeline: standby.timeline }, answers));
        }
    }

    /// Takes in an answer of the primary, the `answers`th.
    pub(super) fn compare(&mut self, primary: &PrimaryAnswer, answers: u64) {
        let Some((position, asked)) = self.pending else { return };
        if answers < asked + LATER {
            return;
        }
        self.pending = None;
        let beyond = position.end.zip(primary.lsn).is_some_and(|(own, end)| own > end);
        let ahead = position.timeline.zip(primary.timeline).is_some_and(|(own, its)| own > its);
        self.diverged |= beyond || ahead;
        let same = position.timeline.is_some() && position.timeline == primary.timeline;
        if same && position.end.is_some() && primary.lsn.is_some() && !beyond {
            // On one timeline, who is not beyond the end is within the history. On another one that says
            // nothing: the primary has written on since they parted.
            self.diverged = false;
        }
    }

    /// Whether it contradicts who claims to be its primary: it is of another cluster, or has seen a later
    /// promotion.
    pub(super) fn contradicts(&self, claim: Claim) -> bool {
        let foreign = self.system.zip(claim.system).is_some_and(|(own, its)| own != its);
        let later = self.timeline.zip(claim.timeline).is_some_and(|(own, its)| own > its);
        foreign || later
    }

    /// What it says of its cluster and its line of history.
    pub(super) const fn descent(&self) -> Claim {
        Claim { timeline: self.timeline, system: self.system }
    }

    /// Another primary, or the same one on another timeline: what was said of the former does not hold
    /// for it.
    pub(super) fn forget(&mut self) {
        (self.pending, self.diverged) = (None, false);
    }

    /// Why it gets no new connections, if that is its descent.
    pub(super) fn withheld(&self, primary: Option<&PrimaryAnswer>) -> Option<Withheld> {
        let system = primary.and_then(|primary| primary.system);
        let foreign = self.system.zip(system).is_some_and(|(own, its)| own != its);
        if foreign {
            return Some(Withheld::ForeignSystem);
        }
        self.diverged.then_some(Withheld::Diverged)
    }
}

#[cfg(test)]
mod tests;
