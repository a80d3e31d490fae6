use std::collections::BTreeMap;

use super::*;

impl Row for BTreeMap<&str, &str> {
    fn text(&self, column: &str) -> Option<&str> {
        self.get(column).copied()
    }
}

fn row<'t>(columns: &[(&'t str, &'t str)]) -> BTreeMap<&'t str, &'t str> {
    columns.iter().copied().collect()
}

const PRIMARY: &[(&str, &str)] = &[
    ("in_recovery", "f"),
    ("lsn", "1/A0000028"),
    ("written_timeline", "0000001F"),
    ("system", "18446744073709551615"),
    ("used", "3"),
    ("most", "100"),
];

fn with<'t>(
    columns: &[(&'t str, &'t str)],
    more: &[(&'t str, &'t str)],
) -> BTreeMap<&'t str, &'t str> {
    let mut row = row(columns);
    row.extend(more.iter().copied());
    row
}

fn read_all(rows: &[BTreeMap<&str, &str>]) -> Report {
    Report::read(rows).unwrap()
}

#[test]
fn a_primary_tells_its_timeline_as_a_file_name_has_it() {
    let Report::Primary(told) = read_all(&[row(PRIMARY)]) else { panic!("a primary") };
    assert_eq!(told.timeline, Some(Timeline::new(31)));
    assert_eq!(told.system, Some(u64::MAX));
    assert_eq!(told.lsn, Some(Lsn::new(0x1_A000_0028)));
    assert!(told.walsenders.is_empty() && told.told_all);
}

#[test]
fn a_standby_tells_what_it_follows() {
    let told = [
        ("in_recovery", "t"),
        ("followed_timeline", "2"),
        ("system", "7"),
        ("received", "0/30"),
        ("replayed", "0/20"),
        ("age_ms", "1500"),
        ("receiving", "t"),
        ("used", "5"),
        ("most", "200"),
    ];
    let wanted = Standby {
        received: Some(Lsn::new(0x30)),
        replayed: Some(Lsn::new(0x20)),
        timeline: Some(Timeline::new(2)),
        system: Some(7),
        age: Some(Duration::from_millis(1500)),
        receiving: true,
        connections: Some(Connections { used: 5, most: 200 }),
        walsenders: Vec::new(),
    };
    assert_eq!(read_all(&[row(&told)]), Report::Standby(wanted, Vec::new()));
    // One that has replayed nothing, receives nothing and tells no more; its clock is behind.
    let poor = [("in_recovery", "t"), ("age_ms", "-3"), ("most", "200")];
    let wanted = Standby { age: Some(Duration::ZERO), ..Standby::default() };
    assert_eq!(read_all(&[row(&poor)]), Report::Standby(wanted, Vec::new()));
}

#[test]
fn walsenders_that_do_not_stream_do_not_count() {
    let streams = [
        ("pid", "11"),
        ("application_name", "db2"),
        ("client", "10.0.0.12"),
        ("state", "streaming"),
        ("sync_state", "quorum"),
        ("replay_lsn", "0/5"),
        ("replay_lag_ms", "12"),
    ];
    let rows = [
        with(PRIMARY, &streams),
        with(PRIMARY, &[("pid", "12"), ("state", "catchup"), ("sync_state", "async")]),
        with(PRIMARY, &[("pid", "13"), ("state", "backup"), ("sync_state", "async")]),
        with(
            PRIMARY,
            &[("pid", "14"), ("state", "streaming"), ("sync_state", "of a later version")],
        ),
        // Over a Unix socket, and idle.
        with(PRIMARY, &[("pid", "15"), ("state", "streaming"), ("sync_state", "async")]),
    ];
    let Report::Primary(told) = read_all(&rows) else { panic!("a primary") };
    assert!(told.told_all);
    let [db2, local] = &told.walsenders[..] else { panic!("{told:?}") };
    assert_eq!(db2.application_name, "db2");
    assert_eq!(db2.client, Some("10.0.0.12".parse().unwrap()));
    assert_eq!(db2.sync_state, SyncState::Quorum);
    assert_eq!(db2.replay_lag, Some(Duration::from_millis(12)));
    assert_eq!(db2.replayed, Some(Lsn::new(5)));
    assert_eq!((local.client, local.replay_lag, local.replayed), (None, None, None));
}

#[test]
fn a_role_that_may_not_see_states_is_found_out() {
    let rows = [with(PRIMARY, &[("pid", "11"), ("application_name", "db2")])];
    let Report::Primary(told) = read_all(&rows) else { panic!("a primary") };
    assert!(!told.told_all);
}

#[test]
fn an_answer_without_use_is_refused() {
    let nothing: [BTreeMap<&str, &str>; 0] = [];
    assert!(matches!(Report::read(&nothing), Err(PgError::Answer("row"))));
    let strange = [row(&[("something", "else")])];
    assert!(matches!(Report::read(&strange), Err(PgError::Answer("in_recovery"))));
}
