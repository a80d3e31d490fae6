//! Which of the frozen nodes becomes the primary.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::record::{Kinship, Record};
use super::rules::{Rule, Rules};
use crate::{Lsn, NodeName, Timeline, Wal};

/// The frozen nodes, with the log that each was found to have after it had stopped.
pub type Frozen = BTreeMap<NodeName, Wal>;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Election {
    /// It has everything.
    Candidate(NodeName),
    /// It may be the primary, but another one, which may not, has more: it streams from that one first.
    CatchUp {
        /// Who.
        node: NodeName,
        /// From whom.
        from: NodeName,
    },
    /// Nobody.
    Nobody(NoCandidate),
}

/// Why nobody becomes the primary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum NoCandidate {
    /// What was acknowledged may be on a voter that did not answer.
    #[error(
        "{have} of {of} voters are frozen with their log known, and {needed} are needed to be sure that nothing is lost"
    )]
    TooFewVoters {
        /// Frozen voters of the set.
        have: usize,
        /// That are needed.
        needed: usize,
        /// In the set.
        of: usize,
    },
    /// Nobody has what was acknowledged.
    #[error("no frozen node has the log up to {floor} of timeline {timeline}")]
    BelowFloor {
        /// Up to where it is needed.
        floor: Lsn,
        /// On this timeline.
        timeline: Timeline,
    },
    /// All of them are excluded.
    #[error("none of the frozen nodes may become the primary")]
    NobodyEligible,
    /// The primary may have acknowledged alone, and had this much more when it renewed last.
    #[error("the candidate lacks {bytes} bytes that the primary had, and may lack {allowed}")]
    Behind {
        /// Bytes.
        bytes: u64,
        /// As the mode says.
        allowed: u64,
    },
}

/// Chooses among the frozen nodes, by these filters in this order:
///
/// 1. **Enough voters** (S4). Of each set that PostgreSQL may have been using, so many are frozen that every
///    quorum has one of them. A set that waits for nobody needs none.
/// 2. **One history** (S6). A log that diverged from the cluster's does not count at all.
/// 3. **The floor** (S3). A log that lacks what was acknowledged before the sets came into use does not
///    either.
/// 4. **The furthest** (S4), of all that are left: also of those who may not become the primary, since what
///    they have may have been acknowledged.
/// 5. **Eligible**: a confirmed member without `nofailover`. Where only others are the furthest, the best
///    eligible one streams from one of them first.
/// 6. **Not too far behind** the primary, where that may have acknowledged alone.
/// 7. A voter of the newest set before others, then priority, then name.
#[must_use]
pub fn elect(record: &Record, frozen: &Frozen, rules: Rules) -> Election {
    elect_among(record, frozen, |_| true, rules)
}

/// As [`elect`], where only those who are `able` can become the primary by now. What the others have counts.
#[must_use]
pub fn elect_among(
    record: &Record,
    frozen: &Frozen,
    able: impl Fn(&NodeName) -> bool,
    rules: Rules,
) -> Election {
    let careful = rules.hold(Rule::S4);
    if careful && let Some(missing) = missing_voters(record, frozen) {
        return Election::Nobody(missing);
    }
    let floor = record.voters.floor;
    let related = |wal: &Wal| !rules.hold(Rule::S6) || record.kinship(wal) == Kinship::Follows;
    let counted: Vec<_> = frozen
        .iter()
        .filter(|(node, wal)| {
            record.members.contains_key(*node) && related(wal) && (!careful || wal.contains(floor))
        })
        .collect();
    let Some(furthest) = counted.iter().map(|(_, wal)| wal.end).max() else {
        return Election::Nobody(NoCandidate::BelowFloor {
            floor: floor.lsn,
            timeline: floor.timeline,
        });
    };
    let eligible = |node: &NodeName| {
        let member = &record.members[node];
        able(node) && !member.nofailover && (member.confirmed || !rules.hold(Rule::S8))
    };
    // Greatest first.
    let merit = |(node, wal): &(&NodeName, &Wal)| {
        let member = &record.members[*node];
        let voter = record.voters.wanted().nodes.contains(*node);
        let further = if careful { wal.end } else { furthest };
        (further, voter, member.priority, Reverse((*node).clone()))
    };
    let Some((node, wal)) =
        counted.iter().filter(|(node, _)| eligible(node)).max_by_key(|it| merit(it))
    else {
        return Election::Nobody(NoCandidate::NobodyEligible);
    };
    if careful && wal.end < furthest {
        let source = counted
            .iter()
            .filter(|(node, wal)| wal.end == furthest && able(node))
            .max_by_key(|it| merit(it));
        return match source {
            Some((from, _)) => Election::CatchUp { node: (*node).clone(), from: (*from).clone() },
            None => Election::Nobody(NoCandidate::NobodyEligible),
        };
    }
    match too_far_behind(record, wal) {
        Some(behind) if careful => Election::Nobody(behind),
        Some(_) | None => Election::Candidate((*node).clone()),
    }
}

fn missing_voters(record: &Record, frozen: &Frozen) -> Option<NoCandidate> {
    let sets = record.voters.sets.iter().filter(|set| !set.is_open());
    let mut short = sets.filter(|set| !set.blocked_by(|node| frozen.contains_key(node)));
    short.next().map(|set| NoCandidate::TooFewVoters {
        have: set.nodes.iter().filter(|node| frozen.contains_key(*node)).count(),
        needed: set.nodes.len() - set.quorum + 1,
        of: set.nodes.len(),
    })
}

fn too_far_behind(record: &Record, wal: &Wal) -> Option<NoCandidate> {
    let on_it =
        wal.extent(record.term().timeline).unwrap_or(record.term().fork.lsn.min(wal.end.lsn));
    let (bytes, allowed) = (on_it.behind(record.lease.flushed()), record.mode.max_lag());
    let alone = record.voters.may_acknowledge_alone();
    (alone && bytes > allowed).then_some(NoCandidate::Behind { bytes, allowed })
}
