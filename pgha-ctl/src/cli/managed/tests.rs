use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::{Member, Mode, Suspicion};
use pgha_machine::failover::timing::{Profile, Wanted};
use pgha_machine::failover::voters::VoterSet;
use pgha_machine::{Epoch, Position, Wal};

use super::*;
use crate::agent::failures::{Failure, FailureKind};
use crate::agent::status::AddressStatus;
use crate::controller::failover::{ProcessStatus, SCHEMA, StageStatus};
use crate::postgres::server::facts::{Facts, Walsender};

const NOW: u64 = 1_795_316_400;

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn at(lsn: u64) -> Position {
    Position { timeline: Timeline::new(1), lsn: Lsn::new(lsn) }
}

/// db1 is the primary; db2 and db3 are its voters, and a commit waits for one of them.
fn record() -> Record {
    let member = Member { confirmed: false, nofailover: false, priority: 0 };
    let others = ["db2", "db3"].map(|node| (name(node), member.clone())).into();
    let pace = Pace {
        lease: Wanted::from(Profile::Fast).judge().unwrap(),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(300),
    };
    let mode = Mode::Sync { quorum: 1, max_lag: 0 };
    let wal = Wal { end: at(0x0300_0000), left: Vec::new() };
    let record = Record::founded(&name("db1"), &wal, &others, mode, pace).unwrap();
    let record = record.renew(&name("db1"), 1, at(0).lsn).unwrap();
    let both = VoterSet::of([name("db2"), name("db3")].into(), 1);
    let announced = record.announce(&name("db1"), both).unwrap();
    announced.settle(&name("db1"), at(0x0300_0000), &Default::default()).unwrap()
}

fn facts(in_recovery: bool, flushed: u64, walsenders: Vec<Walsender>) -> Facts {
    Facts {
        in_recovery,
        received: in_recovery.then(|| Lsn::new(flushed)),
        flushed: Some(Lsn::new(flushed)),
        replayed: in_recovery.then(|| Lsn::new(flushed - 64)),
        receiver: in_recovery.then(|| "streaming".to_owned()),
        walsenders,
    }
}

fn agent(node: &str, role: RoleStatus, facts: Option<Facts>, record: Record) -> AgentStatus {
    AgentStatus {
        schema: 1,
        node: name(node),
        role,
        role_text: String::new(),
        standing: String::new(),
        epoch: Some(Epoch::new(1)),
        holder: None,
        wal: Some(Wal { end: at(0x0300_0000), left: Vec::new() }),
        system: None,
        was_primary: false,
        failsafe: false,
        rebuild: None,
        failsafe_of: None,
        store: Some(true),
        start: Some(1),
        writer_vip: (role == RoleStatus::Primary).then(|| "10.0.0.99".parse().unwrap()),
        addresses: AddressStatus::default(),
        faults: Vec::new(),
        record: Some(record),
        facts: facts.map(|facts| (NOW, facts)),
        failures: Failed::default(),
    }
}

fn walsender(node: &str, sync: &str) -> Walsender {
    Walsender {
        name: node.to_owned(),
        state: "streaming".to_owned(),
        sync_state: sync.to_owned(),
        flushed: None,
        replayed: None,
        lag_ms: Some(7),
    }
}

fn agents() -> BTreeMap<NodeName, Result<AgentStatus, String>> {
    let streams = vec![walsender("db2", "quorum")];
    let mut db3 = agent("db3", RoleStatus::Standby, None, record());
    let failure = Failure { count: 2, last: (NOW - 60) * 1_000, reason: "no room".to_owned() };
    db3.failures.insert(FailureKind::Order, failure);
    [
        agent("db1", RoleStatus::Primary, Some(facts(false, 0x0300_0100, streams)), record()),
        agent("db2", RoleStatus::Standby, Some(facts(true, 0x0300_0100, Vec::new())), record()),
        db3,
    ]
    .map(|status| (status.node.clone(), Ok(status)))
    .into()
}

fn process(unfit: Option<&str>, frozen: bool) -> ProcessStatus {
    ProcessStatus {
        heard_ms: Some(40),
        silent: false,
        fault: false,
        faulty: false,
        failsafe: false,
        frozen,
        unfit: unfit.map(str::to_owned),
    }
}

fn seen(record: Record) -> FailoverStatus {
    FailoverStatus {
        schema: SCHEMA,
        controller: name("lb1"),
        stage: StageStatus::Watching,
        in_stage_ms: None,
        store_answers: Some(true),
        store_silent_ms: None,
        renewed_ms: Some(120),
        why_not: None,
        awaits: Vec::new(),
        processes: [
            (name("db1"), process(Some("it is the primary"), false)),
            (name("db2"), process(None, true)),
            (name("db3"), process(Some("it is marked nofailover"), false)),
        ]
        .into(),
        record: Some(record),
    }
}

fn vip() -> Option<IpAddr> {
    Some("10.0.0.99".parse().unwrap())
}

#[test]
fn each_node_is_shown_as_its_agent_and_the_primary_say() {
    let managed = Managed::of(Ok(seen(record())), None, &agents(), vip());
    let shown: Vec<_> =
        managed.nodes.iter().map(|node| (node.role.as_str(), node.data.as_str())).collect();
    assert_eq!(
        shown,
        [("PRI", "LATEST"), ("HS:quorum", "STREAMING|QUORUM"), ("HS:alone", "DISCONNECT")]
    );
    let db2 = &managed.nodes[1];
    assert_eq!((db2.lag_bytes, db2.lag_ms, db2.unfit.as_ref()), (Some(64), Some(7), None));
    assert_eq!(managed.writer_vip_at, [name("db1")]);
    let votes = &managed.votes[0];
    assert_eq!((votes.quorum, votes.needed, votes.frozen), (1, 2, 1));
    let text = text(&managed, NOW);
    for line in [
        "failover: db1 is the primary (epoch 1, timeline 1, since when is not known; the record by controller lb1)",
        "lease: held by db1 for 1 s, 1 renewals; renewed 120 ms ago",
        "mode sync, quorum 1; voters: a commit waits for 1 of db2, db3; to prove what was acknowledged 2 have to \
         stop, 1 have",
        "baseline: timeline 1 begins at 0/3000000 of timeline 1; no candidate below 0/3000000 of timeline 1",
        "writer VIP 10.0.0.99: on db1",
        "db3: order failed 2 times, last 2026-11-22 02:59:00 (1 min ago): no room",
    ] {
        assert!(text.contains(line), "{line}\nin\n{text}");
    }
}

#[test]
fn what_is_left_tells_where_controller_and_primary_are_gone() {
    let mut agents = agents();
    agents.insert(name("db1"), Err("no connection".to_owned()));
    let newer = record().freeze(name("lb1"), Suspicion::Silent).unwrap();
    agents.insert(name("db3"), Ok(agent("db3", RoleStatus::Frozen, None, newer)));
    let managed = Managed::of(Err("nobody listens".to_owned()), None, &agents, vip());
    assert_eq!(managed.told_by.as_deref(), Some("the agent of db3"));
    let shown: Vec<_> =
        managed.nodes.iter().map(|node| (node.role.as_str(), node.data.as_str())).collect();
    assert_eq!(
        shown,
        [("unknown", "unknown"), ("HS:async", "STREAMING|ASYNC"), ("HS:alone", "FROZEN")]
    );
    let text = text(&managed, NOW);
    for line in [
        "failover: no word of the controller: nobody listens",
        "when it was renewed last is not known",
        "freeze 1 by lb1: db1: two others heard nothing of it, and it renewed no more",
        "writer VIP 10.0.0.99: no agent that answers has it",
        "db1: its agent tells nothing (no connection); when it was heard last is not known",
    ] {
        assert!(text.contains(line), "{line}\nin\n{text}");
    }
}

#[test]
fn a_store_that_does_not_answer_is_told_with_what_was_known_last() {
    let silent = |known| FailoverStatus {
        store_answers: Some(false),
        store_silent_ms: Some(75_000),
        renewed_ms: None,
        record: known,
        ..seen(record())
    };
    let said = |known, agents: &BTreeMap<_, _>| {
        let managed = Managed::of(Ok(silent(known)), None, agents, vip());
        text(&managed, NOW)
    };
    let known = said(Some(record()), &agents());
    let line = "lease: held by db1 for 1 s, 1 renewals; the store has not answered controller lb1 for 1 min 15 s, \
                so this is what was known last";
    assert!(known.contains(line), "{known}");
    let unknown = said(None, &BTreeMap::new());
    let line = "nobody tells the record: the store has not answered controller lb1 for 1 min 15 s";
    assert!(unknown.contains(line), "{unknown}");
}

#[test]
fn where_nobody_tells_anything_that_is_said() {
    let agents = [(name("db1"), Err("no connection".to_owned()))].into();
    let managed = Managed::of(Err("nobody listens".to_owned()), None, &agents, None);
    let text = text(&managed, NOW);
    assert!(text.contains("nobody tells the record"), "{text}");
    assert!(text.contains("writer VIP: none is configured here"), "{text}");
}
