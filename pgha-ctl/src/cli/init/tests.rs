use std::collections::BTreeMap;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::{Member, Mode};
use pgha_machine::failover::timing::Timings;
use pgha_machine::{Epoch, Lsn, NodeName, Position, Timeline, Wal};

use super::plan::{Look, Objection, found};
use super::{HEARTBEAT, SILENCE};
use crate::agent::status::{AddressStatus, AgentStatus, RoleStatus, SCHEMA};

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn at(timeline: u32, lsn: u64) -> Position {
    Position { timeline: Timeline::new(timeline), lsn: Lsn::new(lsn) }
}

fn look(node: &str, lsn: u64) -> Look {
    let status = AgentStatus {
        schema: SCHEMA,
        node: name(node),
        role: RoleStatus::Standby,
        role_text: "a standby of nobody".to_owned(),
        standing: "unknown to it".to_owned(),
        epoch: None,
        holder: None,
        wal: Some(Wal { end: at(1, lsn), left: Vec::new() }),
        system: Some(77),
        was_primary: false,
        failsafe: false,
        rebuild: None,
        failsafe_of: None,
        store: None,
        start: Some(1),
        writer_vip: None,
        addresses: AddressStatus::default(),
        faults: Vec::new(),
        record: None,
        facts: None,
        failures: BTreeMap::default(),
    };
    Look { node: name(node), status: Ok(status) }
}

fn with(mut look: Look, change: impl FnOnce(&mut AgentStatus)) -> Look {
    change(look.status.as_mut().unwrap());
    look
}

fn primary(node: &str, lsn: u64) -> Look {
    with(look(node, lsn), |status| status.was_primary = true)
}

fn judged(looks: &[Look], wanted: Option<&str>) -> Result<String, Vec<Objection>> {
    let member = Member { confirmed: false, nofailover: false, priority: 0 };
    let members: BTreeMap<_, _> =
        looks.iter().map(|look| (look.node.clone(), member.clone())).collect();
    let pace = Pace { lease: Timings::default(), heartbeat: HEARTBEAT, silence: SILENCE };
    let mode = Mode::Sync { quorum: 1, max_lag: 0 };
    let (plan, record) = found(looks, wanted.map(name), &members, mode, pace)?;
    assert_eq!(record.holder(), Some(&plan.primary));
    assert_eq!(record.epoch, Epoch::new(1));
    assert_eq!(record.members.len(), members.len());
    Ok(plan.primary.to_string())
}

#[test]
fn who_was_the_primary_is_it_and_else_who_has_most() {
    assert_eq!(judged(&[look("db1", 5), primary("db2", 5), look("db3", 4)], None).unwrap(), "db2");
    assert_eq!(judged(&[look("db1", 5), look("db2", 6), look("db3", 4)], None).unwrap(), "db2");
    assert_eq!(judged(&[look("db1", 5), look("db2", 5)], None).unwrap(), "db1");
    assert_eq!(judged(&[look("db1", 5), primary("db2", 5)], Some("db1")).unwrap(), "db1");
}

/// Nothing that a node has is left behind without a word.
#[test]
fn everything_that_speaks_against_it_is_told() {
    let gone = Look { node: name("db3"), status: Err("no connection".to_owned()) };
    let foreign = with(look("db2", 5), |status| status.system = Some(78));
    let objections = judged(&[primary("db1", 5), foreign, gone], None).unwrap_err();
    let (of, wanted) = (name("db1"), 77);
    assert_eq!(
        objections,
        [
            Objection::Foreign { node: name("db2"), found: 78, of, wanted },
            Objection::NoWord { node: name("db3"), why: "no connection".to_owned() },
        ]
    );

    let two = judged(&[primary("db1", 5), primary("db2", 5)], None).unwrap_err();
    assert_eq!(two, [Objection::TwoPrimaries { one: name("db1"), other: name("db2") }]);

    let ahead = judged(&[primary("db1", 5), look("db2", 6)], None).unwrap_err();
    assert!(
        matches!(&ahead[..], [Objection::Ahead { node, .. }] if *node == name("db2")),
        "{ahead:?}"
    );
    let behind = judged(&[primary("db1", 5), look("db2", 4)], Some("db2")).unwrap_err();
    assert!(
        matches!(&behind[..], [Objection::Ahead { node, .. }] if *node == name("db1")),
        "{behind:?}"
    );

    // Further by number on another timeline is not further.
    let newer = Wal { end: at(2, 4), left: vec![at(1, 3)] };
    let other = with(look("db2", 0), |status| status.wal = Some(newer));
    let ahead = judged(&[primary("db1", 5), other], None).unwrap_err();
    assert!(matches!(&ahead[..], [Objection::Ahead { .. }]), "{ahead:?}");

    let runs = with(look("db2", 5), |status| status.role = RoleStatus::Primary);
    assert!(matches!(&judged(&[runs], None).unwrap_err()[..], [Objection::NotReady { .. }]));
    let no_end = with(look("db2", 5), |status| status.wal = None);
    assert!(matches!(&judged(&[no_end], None).unwrap_err()[..], [Objection::NoEnd { .. }]));
    let stranger = judged(&[look("db1", 5)], Some("db9")).unwrap_err();
    assert_eq!(stranger, [Objection::Stranger(name("db9"))]);
}
