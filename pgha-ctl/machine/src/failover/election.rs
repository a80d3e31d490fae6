//! Which of the frozen nodes becomes the primary.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::record::{Doubt, Kinship, Lease, Member, Mode, Record};
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
    /// Nobody knows what was acknowledged.
    #[error(
        "somebody else streamed under the name of {0}, so that what was acknowledged need not be on a voter"
    )]
    Impersonated(NodeName),
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
/// 3. **The floor** (S3). Somebody has what was acknowledged before the sets came into use.
/// 4. **The furthest** (S4), of those who have: also of those who may not become the primary, since what
///    they have may have been acknowledged.
/// 5. **Eligible**: a confirmed member without `nofailover`. Where only others are the furthest, the best
///    eligible one streams from one of them first, also one below the floor.
/// 6. **Not too far behind** the primary, where that may have acknowledged alone, or somebody else has streamed
///    under the name of a voter; `strict` has nobody then.
/// 7. A voter of the newest set before others, then priority, then name.
#[must_use]
pub fn elect(record: &Record, frozen: &Frozen, rules: Rules) -> Election {
    elect_among(record, frozen, |_| true, |_| true, rules)
}

/// As [`elect`], where only those who are `able` can become the primary by now, and only who is `there` can be
/// streamed from. What the others have counts.
#[must_use]
pub fn elect_among(
    record: &Record,
    frozen: &Frozen,
    able: impl Fn(&NodeName) -> bool,
    there: impl Fn(&NodeName) -> bool,
    rules: Rules,
) -> Election {
    let careful = rules.hold(Rule::S4);
    // A primary that gave the lease back and stopped has everything that it ever acknowledged.
    let complete = match &record.lease {
        Lease::Released { by, .. } => frozen.contains_key(by),
        Lease::Held { .. } => false,
    };
    if careful
        && !complete
        && let Some(missing) = missing_voters(record, frozen)
    {
        return Election::Nobody(missing);
    }
    let floor = record.voters.floor;
    let related = |wal: &Wal| !rules.hold(Rule::S6) || record.kinship(wal) == Kinship::Follows;
    let known: Vec<_> =
        frozen.iter().filter(|(node, wal)| record.concerns(node) && related(wal)).collect();
    let reaches = |wal: &Wal| !careful || wal.contains(floor);
    let counted = known.iter().filter(|(_, wal)| reaches(wal));
    let Some(furthest) = counted.map(|(_, wal)| wal.end).max() else {
        return Election::Nobody(NoCandidate::BelowFloor {
            floor: floor.lsn,
            timeline: floor.timeline,
        });
    };
    let eligible = |node: &NodeName| {
        let may =
            |member: &Member| !member.nofailover && (member.confirmed || !rules.hold(Rule::S8));
        able(node) && record.members.get(node).is_some_and(may)
    };
    // Greatest first.
    let merit = |(node, wal): &(&NodeName, &Wal)| {
        let priority = record.members.get(*node).map(|member| member.priority);
        let voter = record.voters.wanted().nodes.contains(*node);
        let further = if careful { wal.end } else { furthest };
        (further, voter, priority, Reverse((*node).clone()))
    };
    let Some((node, wal)) =
        known.iter().filter(|(node, _)| eligible(node)).max_by_key(|it| merit(it))
    else {
        return Election::Nobody(NoCandidate::NobodyEligible);
    };
    if careful && (wal.end < furthest || !reaches(wal)) {
        let source = known
            .iter()
            .filter(|(node, wal)| wal.end == furthest && reaches(wal) && there(node))
            .max_by_key(|it| merit(it));
        return match source {
            Some((from, _)) => Election::CatchUp { node: (*node).clone(), from: (*from).clone() },
            None => Election::Nobody(NoCandidate::NobodyEligible),
        };
    }
    match uncertain(record).or_else(|| too_far_behind(record, wal)) {
        Some(behind) if careful && !complete => Election::Nobody(behind),
        Some(_) | None => Election::Candidate((*node).clone()),
    }
}

/// The node that an operator has forced, where it has stopped and its log is of this cluster (S6), whatever it
/// lacks and whoever is missing. Of those who are `there` the furthest gives it first what it has besides: what
/// can be kept is kept.
#[must_use]
pub fn elect_forced(
    record: &Record,
    frozen: &Frozen,
    there: impl Fn(&NodeName) -> bool,
    rules: Rules,
) -> Option<Election> {
    let node = record.forced()?;
    let related = |wal: &Wal| !rules.hold(Rule::S6) || record.kinship(wal) == Kinship::Follows;
    let wal = frozen.get(node).filter(|wal| related(wal))?;
    let has_more = |(other, log): &(&NodeName, &Wal)| {
        record.concerns(other) && related(log) && there(other) && log.end > wal.end
    };
    let furthest = frozen.iter().filter(has_more).max_by_key(|(_, log)| log.end);
    Some(match furthest {
        Some((from, _)) => Election::CatchUp { node: node.clone(), from: from.clone() },
        None => Election::Candidate(node.clone()),
    })
}

/// Who streamed under another's name.
fn impersonated(record: &Record) -> Option<&NodeName> {
    record.doubts.iter().find_map(|doubt| match doubt {
        Doubt::Impersonated(node) => Some(node),
        Doubt::Lowered(_) => None,
    })
}

fn uncertain(record: &Record) -> Option<NoCandidate> {
    let strict = matches!(record.mode, Mode::Strict { .. });
    impersonated(record).filter(|_| strict).cloned().map(NoCandidate::Impersonated)
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
    let alone = record.voters.may_acknowledge_alone() || impersonated(record).is_some();
    (alone && bytes > allowed).then_some(NoCandidate::Behind { bytes, allowed })
}
