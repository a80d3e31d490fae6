use serde_json::json;

use super::*;
use crate::cli::fixture;

fn vips() -> Vec<SocketAddr> {
    vec!["10.0.0.100:5432".parse().unwrap()]
}

#[test]
fn only_sessions_that_may_still_be_used_are_waited_for() {
    let reply: FlowsReply = serde_json::from_value(json!({
        "schema": 3, "total": 13, "shown": 0, "flows": [],
        "states": { "pending": 1, "established": 2, "closing": 4, "orphaned": 6 },
    }))
    .unwrap();
    assert_eq!(live(&reply), 3);
}

#[test]
fn a_drain_that_somebody_takes_back_is_waited_for_no_longer() {
    let mut sent = fixture::value();
    let still = |sent: &serde_json::Value, server| {
        still_drained(&fixture::read(sent.clone()), &vips(), server)
            .map_err(|refusal| refusal.error)
    };
    assert_eq!(still(&sent, "db3"), Ok(None));
    sent["services"][0]["servers"][1]["reset_ms"] = json!(1500);
    assert_eq!(still(&sent, "10.0.0.3"), Ok(Some(1500)));
    assert_eq!(
        still(&sent, "db2"),
        Err("db2 is drained no longer in service reader: somebody took that back".to_owned())
    );
    // Another service's drain is another matter, and so is a server that is gone.
    let elsewhere =
        still_drained(&fixture::read(sent.clone()), &["10.0.0.101:5432".parse().unwrap()], "db2");
    assert_eq!(elsewhere, Ok(None));
    assert_eq!(still(&sent, "db9"), Ok(None));
}

#[test]
fn progress_and_end_are_told_in_a_sentence() {
    assert_eq!(progress("db2", Look { left: 3, reset_ms: None }), "db2: 3 sessions left");
    assert_eq!(
        progress("db2", Look { left: 1, reset_ms: Some(29_001) }),
        "db2: 1 session left, reset in 30 s"
    );
    let waited = |ended, sessions_left| Waited {
        schema: SCHEMA,
        ended,
        sessions_left,
        waited_ms: 12_000,
        apart: Vec::new(),
        uncounted: Vec::new(),
        services: Vec::new(),
    };
    assert_eq!(
        sentence(&waited(Ended::Drained, Some(0)), "db2"),
        "db2 is drained: no session is left, after 12 s\n\
         counted: the sessions that this director remembers"
    );
    let others = || ["lb2", "lb3"].map(|name| name.parse().unwrap()).to_vec();
    let drained = || Waited { uncounted: others(), ..waited(Ended::Drained, Some(0)) };
    // They have the same orders, and sessions of their own all the same.
    assert!(
        sentence(&drained(), "db2").contains("none that lb2, lb3 forward; ask there too (--to)")
    );
    assert_eq!(
        sentence(&Waited { apart: others(), ..drained() }, "db2"),
        "db2 is drained: no session is left, after 12 s\n\
         counted: the sessions that this director remembers, and none that lb2, lb3 forward; drain it there \
         too (--to), or see pg_stat_activity on the server"
    );
    assert_eq!(
        sentence(&waited(Ended::TimedOut, Some(1)), "db2"),
        "db2 has 1 session left after 12 s; the drain stays in force (pgha undrain db2 takes it back)\n\
         counted: the sessions that this director remembers"
    );
    assert_eq!(
        sentence(&waited(Ended::Interrupted, None), "db2"),
        "no longer waited for; db2 has an unknown number of sessions left, and the drain stays in force (pgha \
         undrain db2 takes it back)\n\
         counted: the sessions that this director remembers"
    );
    let json = serde_json::to_value(waited(Ended::TimedOut, Some(2))).unwrap();
    assert_eq!((&json["ended"], &json["sessions_left"]), (&json!("timed_out"), &json!(2)));
    assert_eq!(
        [Ended::Drained, Ended::TimedOut, Ended::Interrupted].map(|e| e.exit() as u8),
        [0, 6, 130]
    );
}
