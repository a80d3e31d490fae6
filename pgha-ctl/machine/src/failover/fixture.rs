//! The cluster that the tests of failover begin with: `a` is the primary since ever, `b` and `c` are its
//! voters, and a commit waits for one of them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::election::Frozen;
use super::pace::Pace;
use super::record::{Lease, Member, Mode, Nomination, Record, Suspicion, Takeover, Term};
use super::timing::{Profile, Wanted};
use super::voters::VoterSet;
use crate::{Lsn, NodeName, Position, Timeline, Wal};

/// The process of `a` that renews.
pub(super) const RUN: u64 = 7;
/// The end of the log when the voters were settled.
pub(super) const FLOOR: u64 = 100;
pub(super) const SYNC: Mode = Mode::Sync { quorum: 1, max_lag: 10 };
pub(super) const STRICT: Mode = Mode::Strict { quorum: 1 };
pub(super) const ASYNC: Mode = Mode::Async { max_lag: 10 };

pub(super) fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// A lease of 1 s: renewed after 250 ms, dropped after 600 ms, proven to have ended after 1060 ms.
pub(super) fn pace() -> Pace {
    Pace {
        lease: Wanted::from(Profile::Fast).judge().unwrap(),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(300),
    }
}

pub(super) const fn at(timeline: u32, lsn: u64) -> Position {
    Position { timeline: Timeline::new(timeline), lsn: Lsn::new(lsn) }
}

/// A log that never left the first timeline.
pub(super) const fn wal(lsn: u64) -> Wal {
    Wal { end: at(1, lsn), left: Vec::new() }
}

/// A log that left timelines there, the oldest first, and ends in the last.
pub(super) fn through(positions: &[(u32, u64)]) -> Wal {
    let (end, left) = positions.split_last().unwrap();
    let place = |(timeline, lsn): &(u32, u64)| at(*timeline, *lsn);
    Wal { end: place(end), left: left.iter().map(place).collect() }
}

pub(super) fn set(nodes: &[&str], quorum: usize) -> VoterSet {
    VoterSet::of(nodes.iter().map(|node| name(node)).collect(), quorum)
}

pub(super) const fn member(nofailover: bool, priority: i32) -> Member {
    Member { confirmed: false, nofailover, priority }
}

/// The cluster, renewed twice.
pub(super) fn cluster(mode: Mode) -> Record {
    let others = ["b", "c"].map(|node| (name(node), member(false, 0))).into();
    let founded = Record::founded(&name("a"), &wal(FLOOR), &others, mode, pace()).unwrap();
    let renewed = founded.renew(&name("a"), RUN, Lsn::new(FLOOR)).unwrap();
    let settled = match mode {
        Mode::Async { .. } => renewed,
        Mode::Sync { .. } | Mode::Strict { .. } => {
            let both = set(&["b", "c"], mode.quorum());
            let announced = renewed.announce(&name("a"), both).unwrap_or(renewed);
            announced.settle(&name("a"), at(1, FLOOR), &BTreeSet::new()).unwrap()
        }
    };
    settled.renew(&name("a"), RUN, Lsn::new(FLOOR)).unwrap()
}

pub(super) fn frozen(record: &Record) -> Record {
    record.freeze(name("k1"), Suspicion::Silent).unwrap()
}

/// What a write changes of a record.
pub(super) fn changes(before: &Record, after: &Record) -> String {
    let mut said = Vec::new();
    if after.epoch != before.epoch {
        said.push(format!("epoch {}", after.epoch));
    }
    if after.lease != before.lease {
        said.push(match &after.lease {
            Lease::Held { by, run, renewal, flushed } => {
                format!("renewal {renewal} of {by} run {run} at {}", flushed.bytes())
            }
            Lease::Released { by, flushed, .. } => {
                format!("released by {by} at {}", flushed.bytes())
            }
        });
    }
    if after.voters.sets != before.voters.sets {
        let sets: Vec<_> = after.voters.sets.iter().map(voters).collect();
        said.push(format!("voters {}", sets.join(" then ")));
    }
    if after.voters.floor != before.voters.floor {
        said.push(format!("floor {}", place(after.voters.floor)));
    }
    if after.freeze != before.freeze {
        said.push(after.freeze.as_ref().map_or("thawed".to_owned(), |freeze| {
            let ordered = freeze.ordered.as_ref().map(|ordered| match &ordered.takeover {
                Takeover::Best => ", best".to_owned(),
                Takeover::To(node) => format!(", to {node}"),
                Takeover::Force(node) => format!(", force {node}"),
            });
            let ordered = ordered.unwrap_or_default();
            format!("freeze {} by {}: {:?}{ordered}", freeze.number, freeze.by, freeze.reason)
        }));
    }
    if after.nomination != before.nomination {
        said.push(after.nomination.as_ref().map_or("no nominee".to_owned(), |nomination| {
            let Nomination { node, by, proof, voters, forced, .. } = nomination;
            let forced = if *forced { ", forced" } else { "" };
            let voters: Vec<_> = voters.iter().map(NodeName::as_str).collect();
            format!("{node} nominated by {by}: {proof:?}, voters {}{forced}", voters.join(" "))
        }));
    }
    if after.terms != before.terms {
        said.push(term(before.term(), after.term()));
    }
    if after.doubts != before.doubts {
        said.push(format!("doubts {:?}", after.doubts));
    }
    let confirmed =
        |node: &&NodeName| after.members[*node].confirmed != before.members[*node].confirmed;
    said.extend(before.members.keys().filter(confirmed).map(|node| format!("{node} confirmed")));
    let rest = |record: &Record| {
        let Record { members, mode, pace, .. } = record.clone();
        let told = |(node, member): (_, Member)| (node, member.nofailover, member.priority);
        (members.into_iter().map(told).collect::<Vec<_>>(), mode, pace)
    };
    assert_eq!(rest(after), rest(before));
    said.join(", ")
}

/// What is another in a term, or all of a new one.
fn term(before: &Term, after: &Term) -> String {
    let same = Term { degraded: after.degraded.clone(), ..before.clone() } == *after;
    let degraded = after.degraded.last().filter(|_| before.degraded != after.degraded);
    let degraded = degraded.map(|degraded| {
        let until = degraded.until.map_or(String::new(), |until| format!(" to {}", until.bytes()));
        format!("degraded from {}{until}", degraded.from.bytes())
    });
    let Term { epoch, node, timeline, fork, promoted, .. } = after;
    let promoted = if *promoted { "promoted" } else { "to be promoted" };
    let term = format!("term {epoch} of {node}: {timeline} from {}, {promoted}", place(*fork));
    let parts = [Some(term).filter(|_| !same), degraded];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Nodes that have stopped, with logs that never left the first timeline.
pub(super) fn stopped(nodes: &[(&str, u64)]) -> Frozen {
    nodes.iter().map(|(node, lsn)| (name(node), wal(*lsn))).collect()
}

pub(super) fn voters(set: &VoterSet) -> String {
    let nodes: Vec<_> = set.nodes.iter().map(NodeName::as_str).collect();
    format!("{} of {{{}}}", set.quorum, nodes.join(" "))
}

pub(super) fn place(position: Position) -> String {
    format!("{}:{}", position.timeline, position.lsn.bytes())
}
