use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::failover::pace::Pace;
use crate::failover::record::{Mode, Nomination, Proof, Suspicion};
use crate::failover::timing::{Profile, Wanted};
use crate::{Lsn, Wal};

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn record() -> Record {
    let pace = Pace {
        lease: Wanted::from(Profile::Fast).judge().unwrap(),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(300),
    };
    let end = Position { timeline: Timeline::new(1), lsn: Lsn::new(0) };
    let wal = Wal { end, left: Vec::new() };
    let mode = Mode::Async { max_lag: 0 };
    let record = Record::founded(&name("a"), &wal, &BTreeMap::new(), mode, pace).unwrap();
    record.renew(&name("a"), 1, Lsn::new(10)).unwrap()
}

/// Writers go to the holder of the lease between its promotion and the proof that its term is over.
#[test]
fn a_record_says_where_writers_go() {
    let said = |record: &Record, current| {
        let cluster = Cluster::of(record, current);
        (cluster.writes, cluster.steady)
    };
    let holds = record();
    assert_eq!(said(&holds, true), (true, true));
    assert_eq!(said(&holds, false), (true, false), "what is not seen moves nobody");
    let frozen = holds.freeze(name("k"), Suspicion::Silent).unwrap();
    assert_eq!(said(&frozen, true), (true, false));
    let released = holds.release(&name("a")).unwrap();
    assert_eq!(said(&released, true), (false, false));
    let nomination = Nomination {
        node: name("b"),
        by: name("k"),
        proof: Proof::Quorum,
        end: holds.term().fork,
        voters: Vec::new(),
        forced: false,
    };
    let nominated = Record { nomination: Some(nomination), ..frozen };
    assert_eq!(said(&nominated, true), (false, false));
    assert_eq!(Cluster::of(&nominated, true).nominee, Some(name("b")));
    let mut taken = holds;
    let term = taken.terms[0].clone();
    let fork = Position { timeline: Timeline::new(1), lsn: Lsn::new(20) };
    let next = crate::failover::record::Term {
        epoch: term.epoch.next(),
        node: name("b"),
        timeline: Timeline::new(2),
        fork,
        promoted: false,
        ..term
    };
    taken.epoch = next.epoch;
    taken.terms.push(next);
    let cluster = Cluster::of(&taken, true);
    assert_eq!(
        (cluster.writes, cluster.primary.as_str(), &cluster.forks[..]),
        (false, "b", &[][..])
    );
    taken.terms[1].promoted = true;
    let cluster = Cluster::of(&taken, true);
    assert_eq!((cluster.writes, &cluster.forks[..]), (true, &[fork][..]));
}
