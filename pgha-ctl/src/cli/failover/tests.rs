use std::collections::BTreeMap;

use pgha_machine::failover::record::{Ordered, Proof, Takeover};
use pgha_machine::failover::rules::Rules;

use super::*;
use crate::controller::failover::fixture::{cluster, name, wal};

fn relieved() -> Record {
    let ordered = Ordered { takeover: Takeover::Best, by: "root".to_owned(), at: 7 };
    cluster().take_over(name("lb1"), ordered).unwrap()
}

fn nominated() -> Record {
    let (rules, frozen) = (Rules::default(), [(name("db2"), wal(100))].into());
    let released = relieved().release(&name("db1")).unwrap();
    released.nominate(name("db2"), name("lb1"), Proof::Released, &frozen, rules).unwrap()
}

fn taken() -> Record {
    nominated().take(&name("db2"), 1, &wal(100), Rules::default()).unwrap()
}

fn status(record: Record, stage: StageStatus) -> FailoverStatus {
    FailoverStatus {
        schema: SCHEMA,
        controller: name("lb1"),
        stage,
        in_stage_ms: Some(5),
        store_answers: Some(true),
        store_silent_ms: None,
        renewed_ms: None,
        why_not: None,
        awaits: Vec::new(),
        processes: BTreeMap::new(),
        record: Some(record),
    }
}

const REPLY: FailoverReply = FailoverReply { schema: SCHEMA, epoch: Epoch::new(1), freeze: 1 };

#[test]
fn an_order_is_followed_stage_by_stage() {
    let said = |record, stage_of| stage(&status(record, stage_of), &REPLY);
    assert_eq!(said(cluster(), StageStatus::Watching), "ordered");
    let mut waits = status(relieved(), StageStatus::Frozen);
    waits.awaits = vec!["released: its agent".to_owned(), "lease: 7 ms more".to_owned()];
    assert_eq!(
        stage(&waits, &REPLY),
        "the voters of db1 stop; its end is to be proven, by what is first: released, lease"
    );
    waits.awaits.clear();
    waits.why_not = Some("1 of 2".to_owned());
    assert_eq!(
        stage(&waits, &REPLY),
        "db1 can acknowledge nothing more; nobody follows yet: 1 of 2"
    );
    assert_eq!(
        said(nominated(), StageStatus::Nominated),
        "db2 may take the next epoch: of db1, it ended PostgreSQL and gave the lease back"
    );
    assert_eq!(said(taken(), StageStatus::Watching), "db2 has taken epoch 2 and is promoted");
}

#[test]
fn it_is_done_when_the_next_primary_is_promoted_and_not_before() {
    let end = |record| done(&status(record, StageStatus::Watching), &REPLY);
    assert!(end(relieved()).unwrap().is_none());
    assert!(end(nominated()).unwrap().is_none());
    assert!(end(taken()).unwrap().is_none());
    let promoted = taken().promoted(&name("db2"), wal(100).end).unwrap();
    assert_eq!(end(promoted).unwrap().unwrap().node, name("db2"));
    // A controller that has not seen the order yet is no reason to give up, another freeze is.
    assert!(end(cluster()).unwrap().is_none());
    let mut another = relieved();
    another.freezes = 2;
    assert!(end(another).is_err());
}

#[test]
fn how_it_ended_is_told_in_a_sentence_and_by_the_exit_code() {
    let outcome = |ended, forced| Outcome {
        schema: SCHEMA,
        ended,
        epoch: Epoch::new(1),
        primary: (ended == Ended::Done).then(|| name("db2")),
        timeline: None,
        forced,
        waited_ms: 2_000,
    };
    assert_eq!(sentence(&outcome(Ended::Done, false)), "db2 is the primary, after 2 s");
    assert!(sentence(&outcome(Ended::Done, true)).contains("may be lost"));
    assert!(
        sentence(&outcome(Ended::TimedOut, false)).starts_with("not done after 2 s; the order")
    );
    assert_eq!(Ended::Ordered.exit(), Exit::Done);
    assert_eq!(Ended::TimedOut.exit(), Exit::TimedOut);
    assert_eq!(Ended::Interrupted.exit(), Exit::Interrupted);
}
