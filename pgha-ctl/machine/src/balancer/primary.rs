//! Which of the hosts that are not in recovery is the primary.

use crate::Timeline;

#[cfg(test)]
mod tests;

/// What a host that is not in recovery says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The timeline it writes.
    pub timeline: Option<Timeline>,
    /// Its system identifier.
    pub system: Option<u64>,
}

/// Who the primary is. The numbers are places in the list of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nobody.
    Nobody {
        /// Those on an older timeline than the primary had that was known before.
        stale: Vec<usize>,
    },
    /// One.
    One {
        /// That one.
        primary: usize,
        /// Those on an older timeline.
        stale: Vec<usize>,
    },
    /// Two or more claim it with equal right.
    Several(Vec<usize>),
}

/// Chooses the primary. In this order:
///
/// 1. Who claims it for another system than somebody else is in nobody's history: several.
/// 2. Of the same system, those count that write the newest timeline: a promotion begins a new one, so
///    the newest is that of the last promotion (PostgreSQL documentation, "Timelines"). That of the
///    primary known `before` counts too: a former primary that comes back while the new one is away is
///    no primary by that.
/// 3. One of them is the primary; of two no timeline tells which.
///
/// A timeline or system that is not known, for the role may not see it, is taken for equal to any: that
/// never makes one of two hosts the primary.
#[must_use]
pub fn choose(claims: &[Claim], before: Option<Claim>) -> Choice {
    if claims.iter().any(|one| claims.iter().any(|other| one.is_foreign_to(other))) {
        return Choice::Several((0..claims.len()).collect());
    }
    // A cluster that was made anew has nothing to do with the one before.
    let before = before.filter(|before| !claims.iter().any(|claim| claim.is_foreign_to(before)));
    let newest = claims.iter().chain(&before).filter_map(|claim| claim.timeline).max();
    let is_stale = |claim: &Claim| claim.timeline.is_some_and(|own| Some(own) < newest);
    let (stale, newest): (Vec<_>, Vec<_>) =
        (0..claims.len()).partition(|index| is_stale(&claims[*index]));
    match newest[..] {
        [] => Choice::Nobody { stale },
        [primary] => Choice::One { primary, stale },
        _ => Choice::Several(newest),
    }
}

impl Claim {
    fn is_foreign_to(&self, other: &Self) -> bool {
        self.system.zip(other.system).is_some_and(|(own, other)| own != other)
    }
}
