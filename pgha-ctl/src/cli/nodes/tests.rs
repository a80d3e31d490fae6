use serde_json::{Value, json};

use super::*;
use crate::cli::fixture::{self, NOW};

#[test]
fn every_node_has_a_line_member_or_not() {
    let shown = nodes(&fixture::status());
    assert_eq!(shown.schema, SCHEMA);
    let text = text(&shown);
    assert_eq!(
        text,
        [
            " SERVICE  ID  HOST      NAME  PORT  STATUS  LB_WEIGHT  ROLE     CONNECTIONS  PACKETS  LB_NODE  \
             DELAY        REPL_STATE  SYNC_STATE  LAST_STATUS_CHANGE",
            " reader   2   10.0.0.2  db2   5432  up      1.000      standby  1            7        yes      \
             96 B, 12 ms  streaming   quorum      2026-11-22 02:48:00",
            " reader   3   10.0.0.3  db3   5432  down    0.000      unknown  0            0        no       \
             -            -           -           2026-11-22 02:59:55",
            " reader   -   10.0.0.1  -     5432  down    0.000      primary  0            0        no       \
             -            -           -           -",
            " reader   -   10.0.0.4  db4   5432  unused  0.000      unknown  0            0        no       \
             -            -           -           -",
        ]
        .join("\n")
    );
}

#[test]
fn json_has_every_column_of_pools_nodes() {
    let value = serde_json::to_value(nodes(&fixture::status())).unwrap();
    assert_eq!(
        value["nodes"][0],
        json!({
            "service": "reader", "vip": "10.0.0.100:5432", "id": 2, "name": "db2", "hostname": "10.0.0.2",
            "port": 5432, "status": "up", "lb_weight": 1.0, "role": "standby", "connections": 1,
            "packets": 7, "load_balance_node": true, "replication_delay": 96,
            "replication_delay_ms": 12, "replication_state": "streaming",
            "replication_sync_state": "quorum", "last_status_change": NOW - 720,
        })
    );
    // Who is no member has no id, and nobody says what it is.
    assert_eq!(value["nodes"][3]["id"], Value::Null);
    let back: Nodes = serde_json::from_value(value).unwrap();
    assert_eq!(back, nodes(&fixture::status()));
}

#[test]
fn the_status_has_pools_words() {
    let word = |key: &str, value: Value| {
        let mut sent = fixture::value();
        sent["services"][0]["servers"][0]["withheld"] = json!(["unproven"]);
        sent["services"][0]["servers"][0][key] = value;
        nodes(&fixture::read(sent)).nodes[0].status.clone()
    };
    assert_eq!(word("health", json!("checking")), "waiting");
    assert_eq!(word("health", json!("down")), "down");
    assert_eq!(word("dead", json!(true)), "down");
    assert_eq!(word("drained", json!({ "by": "alice", "at": 1 })), "drained");
    assert_eq!(word("withheld", json!(["lagging"])), "out");
}

#[test]
fn shares_are_of_all_new_connections_and_of_none() {
    let mut sent = fixture::value();
    sent["services"][0]["servers"] =
        json!([fixture::server("db2", 2), fixture::server("db3", 3), fixture::server("db4", 4)]);
    sent["services"][0]["servers"][2]["effective_weight"] = json!(0.5);
    let shares = |value: &Value| {
        let nodes = nodes(&fixture::read(value.clone())).nodes;
        nodes.iter().map(|node| node.lb_weight).collect::<Vec<_>>()
    };
    // 2 : 2 : 0.5, and the primary.
    assert_eq!(shares(&sent), [2.0 / 4.5, 2.0 / 4.5, 0.5 / 4.5, 0.0]);
    for server in 0..3 {
        sent["services"][0]["servers"][server]["effective_weight"] = json!(0);
    }
    assert_eq!(shares(&sent), [0.0; 4]);
}
