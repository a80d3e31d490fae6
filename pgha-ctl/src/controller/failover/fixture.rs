//! A record for tests of what people are told of failover.

use std::time::Duration;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::{Member, Mode, Record};
use pgha_machine::failover::timing::{Profile, Wanted};
use pgha_machine::{Lsn, NodeName, Position, Timeline, Wal};

pub(crate) fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub(crate) fn wal(lsn: u64) -> Wal {
    Wal { end: Position { timeline: Timeline::new(1), lsn: Lsn::new(lsn) }, left: Vec::new() }
}

/// db1 is the primary of epoch 1, and db2 follows it.
pub(crate) fn cluster() -> Record {
    let member = Member { confirmed: false, nofailover: false, priority: 0 };
    let pace = Pace {
        lease: Wanted::from(Profile::Fast).judge().unwrap(),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(300),
    };
    let mode = Mode::Sync { quorum: 1, max_lag: 0 };
    let record =
        Record::founded(&name("db1"), &wal(100), &[(name("db2"), member)].into(), mode, pace);
    record.unwrap().renew(&name("db1"), 1, Lsn::new(100)).unwrap()
}
