use serde_json::{Value, json};

use super::*;
use crate::cli::fixture::{self, NOW};

/// The lines of a status with this in place of what it says of the primary, the store or the API.
fn lines(changes: &[(&str, Value)]) -> Vec<String> {
    let mut sent = fixture::value();
    for (key, value) in changes {
        sent[*key] = value.clone();
    }
    let status = fixture::read(sent);
    let first = status.primary.iter().map(|known| primary(known, NOW));
    first.chain(of(&status, NOW)).collect()
}

fn claim(name: Option<&str>, last: u8, timeline: u32) -> Value {
    let host = format!("10.0.0.{last}");
    json!({ "name": name, "host": host, "port": 5432, "timeline": timeline, "system": "7" })
}

#[test]
fn the_primary_has_name_timeline_and_age() {
    let well = json!({
        "answers": true, "host": "10.0.0.1", "name": "db1", "timeline": 2, "lsn": "0/30000C0",
        "stale_ms": null, "errors": [],
    });
    assert_eq!(
        lines(&[("primary", well)]),
        ["primary db1 (10.0.0.1) on timeline 2: answers, WAL 0/30000C0"]
    );
    let lost = json!({
        "answers": false, "host": "10.0.0.1", "lsn": null, "stale_ms": 12_345,
        "stale_since": NOW - 12, "errors": ["10.0.0.1: no answer", "10.0.0.4: refused"],
    });
    assert_eq!(
        lines(&[("primary", lost)]),
        [
            "primary 10.0.0.1: does not answer, stale since 2026-11-22 02:59:48 (12 s); the readers stay as \
             they are (10.0.0.1: no answer; 10.0.0.4: refused)"
        ]
    );
    let never =
        json!({ "answers": false, "host": null, "lsn": null, "stale_ms": 2000, "errors": [] });
    assert_eq!(
        lines(&[("primary", never)]),
        [
            "primary not found yet: none answers, stale since 2026-11-22 02:59:58 (2 s); the readers stay as \
             they are"
        ]
    );
}

#[test]
fn several_and_former_primaries_are_named() {
    let several = json!({
        "answers": false, "host": "10.0.0.1", "lsn": null, "stale_ms": 3000, "errors": [],
        "several": [claim(Some("db1"), 1, 1), claim(None, 4, 1)], "stale": [claim(Some("db3"), 3, 1)],
    });
    assert_eq!(
        lines(&[("primary", several)]),
        [
            "primary 10.0.0.1: several say that they are it, stale since 2026-11-22 02:59:57 (3 s); the readers \
             stay as they are",
            "several primaries: db1 (10.0.0.1:5432) on timeline 1 of system 7; 10.0.0.4:5432 on timeline 1 of \
             system 7; stop or rewind all but one of them",
            "former primary: db3 (10.0.0.3:5432) on timeline 1 of system 7 is out of recovery, and what is \
             written to it will be lost; stop it, then rewind it",
        ]
    );
}

#[test]
fn a_store_that_cannot_be_used_says_so() {
    let store = json!({
        "kind": "local", "path": "/var/lib/pgha/main.store", "incarnation": null, "revision": 7,
        "answers": false, "error": "the disk is full", "stale_since": NOW - 60,
    });
    assert_eq!(
        lines(&[("primary", Value::Null), ("store", store)]),
        [
            "store: the disk is full, stale since 2026-11-22 02:59:00 (1 min); orders are refused meanwhile, \
             those that are known stay"
        ]
    );
}

#[test]
fn a_certificate_is_told_of_in_its_last_thirty_days() {
    let of = |days_left: i64, error: Option<&str>| {
        let api = json!({
            "listen": ["10.0.0.21:7432"], "name": "lb1", "until": NOW, "days_left": days_left,
            "error": error,
        });
        lines(&[("primary", Value::Null), ("api", api)])
    };
    assert_eq!(of(30, None), Vec::<String>::new());
    assert_eq!(of(29, None), ["API certificate of lb1: 29 days left; pgha tls renew"]);
    assert_eq!(of(0, None), ["API certificate of lb1: 0 days left; pgha tls renew"]);
    assert_eq!(of(-1, None), ["API certificate of lb1: ended 2026-11-22 03:00:00; pgha tls renew"]);
    assert_eq!(
        of(90, Some("node.key is missing")),
        ["API certificates: node.key is missing; those read before stay in force"]
    );
}

#[test]
fn servers_without_an_id_are_told_with_the_way_out() {
    let server = |last: u8| json!({ "vip": "10.0.0.100", "port": 5432, "address": format!("10.0.0.{last}") });
    let told = |servers: Value| lines(&[("without_id", servers)]).pop().unwrap();
    assert_eq!(
        told(json!([server(7), server(8), server(9)])),
        "no room: 10.0.0.7 for 10.0.0.100:5432 and 2 more get no traffic, because this director has 4095 \
         real servers of all services together already; move servers or services to another director"
    );
    assert!(!told(json!([])).contains("no room"));
}

#[test]
fn a_standby_that_leads_nowhere_is_told() {
    let primary = json!({
        "answers": true, "host": "10.0.0.1", "lsn": "0/30000C0", "stale_ms": null, "errors": [],
        "unplaced": [
            { "application_name": "pg_receivewal", "client": null, "reason": "unix_socket" },
            { "application_name": "walreceiver", "client": "fe80::9", "reason": "link_local" },
            { "application_name": "db2", "client": "10.0.0.9", "reason": "shared_name" },
        ],
    });
    assert_eq!(
        lines(&[("primary", primary)])[1..],
        [
            "what streams as \"walreceiver\" is no reader: that is neither the name of a node nor an address, and \
             it connects from a link-local one; if it is a standby, give it the application_name of its \
             [[node]], or its address",
            "what streams as \"db2\" is no reader: another standby streams under that name, and is taken for it; \
             if it is a standby, give it the application_name of its [[node]], or its address",
        ]
    );
}
