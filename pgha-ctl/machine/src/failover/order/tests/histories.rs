//! Random writes, in any order and by anybody.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Clone, Debug)]
enum Write {
    Join(&'static str),
    Renew(&'static str, u64),
    Freeze,
    Thaw,
    Release(&'static str),
    Nominate(&'static str, Vec<&'static str>),
    Withdraw,
    /// With a log that lacks so many bytes.
    Take(&'static str, u64),
    /// So many bytes before where its log ended.
    Promoted(&'static str, u64),
    Announce(&'static str, Vec<&'static str>, usize),
    Settle(&'static str),
}

const NODES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let node = || select(&NODES[..]);
    let nodes = || vec(select(&NODES[..]), 0..4);
    let one = prop_oneof![
        1 => node().prop_map(Write::Join),
        4 => (node(), 1..20_u64).prop_map(|(node, bytes)| Write::Renew(node, bytes)),
        4 => Just(Write::Freeze),
        1 => Just(Write::Thaw),
        1 => node().prop_map(Write::Release),
        8 => (node(), nodes()).prop_map(|(node, voters)| Write::Nominate(node, voters)),
        1 => Just(Write::Withdraw),
        12 => (node(), 0..6_u64).prop_map(|(node, lacks)| Write::Take(node, lacks)),
        8 => (node(), 0..3_u64).prop_map(|(node, back)| Write::Promoted(node, back)),
        4 => (node(), nodes(), 0..3_usize).prop_map(|(node, set, k)| Write::Announce(node, set, k)),
        4 => node().prop_map(Write::Settle),
    ];
    vec(one, 1..150)
}

/// The record, and the log that is the cluster's.
struct History {
    record: Record,
    log: Wal,
    /// Logs that somebody had.
    had: Vec<Wal>,
}

impl History {
    /// The record after a write, and the cluster's log.
    fn after(&self, write: &Write) -> Result<(Record, Wal), Refusal> {
        let (record, rules) = (&self.record, Rules::default());
        let mut log = self.log.clone();
        let next = match write {
            Write::Join(node) => record.join(name(node), &member(false, 0)),
            Write::Renew(node, bytes) => {
                if record.term().promoted {
                    log.end.lsn = Lsn::new(log.end.lsn.bytes() + bytes);
                }
                record.renew(&name(node), RUN, log.end.lsn)
            }
            Write::Freeze => record.freeze(name("k1"), Suspicion::Silent),
            Write::Thaw => record.thaw(),
            Write::Release(node) => record.release(&name(node)),
            Write::Nominate(node, voters) => {
                let frozen = voters.iter().chain([node]).map(|node| (name(node), log.clone()));
                record.nominate(name(node), name("k1"), Proof::Quorum, &frozen.collect(), rules)
            }
            Write::Withdraw => record.withdraw(),
            Write::Take(node, lacks) => {
                let began = log.left.last().map_or(0, |fork| fork.lsn.bytes());
                log.end.lsn = Lsn::new(log.end.lsn.bytes().saturating_sub(*lacks).max(began));
                record.take(&name(node), RUN, &log, rules)
            }
            Write::Promoted(node, back) => {
                let term = record.term();
                let began = log.left.last().map_or(0, |fork| fork.lsn.bytes());
                let fork = log.end.lsn.bytes().saturating_sub(*back).max(began);
                let fork = Position { lsn: Lsn::new(fork), ..log.end };
                log.left.push(fork);
                log.end = Position { timeline: term.timeline, lsn: fork.lsn };
                record.promoted(&name(node), fork)
            }
            Write::Announce(node, nodes, quorum) => {
                record.announce(&name(node), set(nodes, *quorum))
            }
            Write::Settle(node) => record.settle(&name(node), log.end, &BTreeSet::new()),
        };
        next.map(|next| (next, log))
    }
}

/// What no write may ever break.
fn holds(write: &Write, before: &Record, after: &Record) {
    let said = format!("{write:?}");
    let taken = matches!(write, Write::Take(..));
    if taken {
        let nominee = before.nomination.as_ref().map(|nomination| &nomination.node);
        assert_eq!(nominee, after.holder(), "{said}");
        assert_eq!(after.epoch, before.epoch.next(), "{said}");
        assert_eq!(after.terms.len(), before.terms.len() + 1, "{said}");
    } else {
        assert_eq!(after.epoch, before.epoch, "{said}");
        assert_eq!(after.terms.len(), before.terms.len(), "{said}");
        assert_eq!(after.lease.node(), before.lease.node(), "{said}");
    }
    if before.freeze.is_some() && !taken {
        assert_eq!(after.voters.sets, before.voters.sets, "{said}");
    }
    assert_eq!(after.term().epoch, after.epoch, "{said}");
    let timelines: BTreeSet<_> = after.terms.iter().map(|term| term.timeline).collect();
    assert_eq!(timelines.len(), after.terms.len(), "{said}");
    assert!((1..=MAX_SETS).contains(&after.voters.sets.len()), "{said}");
    for set in &after.voters.sets {
        assert!(set.quorum <= set.nodes.len(), "{said}");
        if let Mode::Strict { quorum } = after.mode {
            assert!(set.quorum >= quorum, "{said}: {set:?}");
        }
    }
    let number = after.freeze.as_ref().map(|freeze| freeze.number);
    assert!(number.is_none_or(|number| number == after.freezes), "{said}");
    let newly = u64::from(after.freeze.is_some() && before.freeze.is_none());
    assert_eq!(after.freezes, before.freezes + newly, "{said}");
    let needs = after.nomination.is_some() || matches!(after.lease, Lease::Released { .. });
    assert!(!needs || after.freeze.is_some(), "{said}");
    assert!(before.members.keys().all(|node| after.members.contains_key(node)), "{said}");
}

/// Whether all of `log` is in `of`.
fn is_in(log: &Wal, of: &Wal) -> bool {
    log.timelines().all(|timeline| log.extent(timeline) <= of.extent(timeline))
}

fn play(mode: Mode, writes: &[Write]) -> History {
    let begun = cluster(mode);
    let mut history = History { record: begun, log: wal(FLOOR), had: vec![wal(FLOOR)] };
    for write in writes {
        let before = &history.record;
        let Ok((after, log)) = history.after(write) else { continue };
        holds(write, before, &after);
        if matches!(write, Write::Take(..)) && !before.term().promoted {
            // Its node was promoted, and nobody wrote so.
            let mut unknown = history.log.clone();
            unknown.left.push(unknown.end);
            unknown.end.timeline = before.term().timeline;
            history.had.push(unknown);
        }
        history.had.push(log.clone());
        (history.record, history.log) = (after, log);
        let record = &history.record;
        assert!(history.log.contains(record.voters.floor), "{write:?}: {:?}", record.voters);
        for had in &history.had {
            let follows = record.kinship(had) == Kinship::Follows;
            assert_eq!(follows, is_in(had, &history.log), "{had:?} {record:?}");
        }
        if let Some(fork) = history.log.left.last() {
            let beyond = Position { lsn: Lsn::new(fork.lsn.bytes() + 1), ..*fork };
            let left = history.log.left[..history.log.left.len() - 1].to_vec();
            assert_eq!(record.kinship(&Wal { end: beyond, left }), Kinship::Diverged);
        }
    }
    history
}

proptest! {
    #[test]
    fn any_writes_keep_what_no_write_may_break(
        mode in select(&[ASYNC, SYNC, STRICT, Mode::Strict { quorum: 2 }][..]),
        writes in writes(),
    ) {
        play(mode, &writes);
    }
}

/// So that the property is about something.
#[test]
fn random_writes_come_far() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let epochs = (0..200).map(|_| {
        let drawn = writes().new_tree(&mut runner).unwrap().current();
        play(SYNC, &drawn).record.epoch.get()
    });
    let most = epochs.max().unwrap();
    assert!(most >= 4, "the furthest of 200 came to epoch {most}");
}
