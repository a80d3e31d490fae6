//! A status as the API sends it, for the tests of what is made of it.

use serde_json::{Value, json};

use crate::controller::status::Status;

/// The clock on the wall, in seconds since the Unix epoch: 2026-11-22 03:00:00.
pub(super) const NOW: u64 = 1_795_316_400;

/// db2 serves; db3 is dead, and was drained before that.
pub(super) fn status() -> Status {
    read(value())
}

/// Of JSON, after a test has put something in.
pub(super) fn read(value: Value) -> Status {
    serde_json::from_value(value).unwrap()
}

/// That status as JSON.
pub(super) fn value() -> Value {
    json!({
        "schema": 3, "version": "0.1.0", "cluster": "main",
        "director": {
            "interfaces": [{ "name": "eth0", "mac": "02:00:00:00:00:15" }], "attached": true,
            "mode": "native", "active": true, "role": "active", "flows": 1024, "flows_ipv6": 1024,
            "pending_flows": 1024, "pending_flows_ipv6": 1024, "pid": 1, "taken_over": false,
            "in_use": { "flows": 700, "flows_ipv6": 0, "pending_flows": 12, "pending_flows_ipv6": 3 },
        },
        "primary": {
            "answers": false, "host": "10.0.0.1", "lsn": "0/30000C0", "stale_ms": 12_345,
            "errors": ["10.0.0.1: no answer"],
        },
        "services": [{
            "name": "reader", "vip": "10.0.0.100", "port": 5432, "scheduler": "rr",
            "discovery": "both", "servers": [server("db2", 2), dead("db3", 3)],
            "traffic": { "2": { "packets": 7, "bytes": 462, "flows": 1, "open": 1 } },
            "changed": {
                "2": { "state": NOW - 720, "withheld": [] },
                "3": {
                    "state": NOW - 5,
                    "withheld": [
                        { "reason": "drained", "since": NOW - 60 },
                        { "reason": "refused", "since": NOW - 5 },
                    ],
                },
            },
        }],
        "nodes": [
            { "name": "db2", "address": "10.0.0.2" },
            { "name": "db3", "address": "10.0.0.3" },
            { "name": "db4", "address": "10.0.0.4" },
        ],
        "received": 9,
        "reasons": { "not_vip": 2, "established_flow": 7, "from_vip": 0 },
    })
}

/// A standby that serves.
pub(super) fn server(name: &str, id: u16) -> Value {
    json!({
        "name": name, "address": format!("10.0.0.{id}"), "id": id, "mac": "02:00:00:00:00:01",
        "interface": 0, "local": false, "listed": true, "sync_state": "quorum", "health": "up",
        "dead": false, "weight": 2, "effective_weight": 2,
        "weight_reasons": [{ "why": "default", "weight": 2 }],
        "drained": null, "reset_ms": null, "weight_set": null, "reader": null, "withheld": [],
        "replayed": "0/3000060", "lag_bytes": 96, "lag_ms": 12, "received": "0/3000060",
        "timeline": 1, "connections": { "used": 12, "most": 100 }, "upstream": null,
        "role": "standby", "vip": "proven", "vip_error": null, "answers_arp": false, "error": null,
    })
}

/// One that an operator drained, and that died then.
fn dead(name: &str, id: u16) -> Value {
    let mut server = server(name, id);
    let said = json!({
        "health": "down", "dead": true, "effective_weight": 0, "withheld": ["drained", "refused"],
        "drained": { "by": "alice", "at": NOW - 60 }, "vip": "unchecked", "lag_bytes": null,
        "lag_ms": null, "connections": null, "role": "unknown", "sync_state": null,
        "error": "connection refused",
    });
    for (key, value) in said.as_object().unwrap() {
        server[key] = value.clone();
    }
    server
}
