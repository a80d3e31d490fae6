use serde_json::json;

use super::status;
use crate::controller::status::{InterfaceStatus, Status};

/// A status as the API sends it.
fn sent() -> Status {
    let server = |name: &str, id: u16, health: &str, withheld: &[&str], weight: u16| {
        json!({
            "name": name, "address": format!("10.0.0.{id}"), "id": id, "mac": "02:00:00:00:00:01",
            "interface": 0, "local": false, "listed": true, "sync_state": "quorum", "health": health,
            "dead": health == "down", "weight": 2, "effective_weight": weight, "drained": null,
            "weight_set": null, "withheld": withheld, "replayed": "0/3000060", "lag_bytes": 96,
            "error": null,
        })
    };
    serde_json::from_value(json!({
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
            "discovery": "both",
            "servers": [
                server("db2", 2, "up", &[], 2),
                server("db3", 3, "down", &["drained", "refused"], 0),
            ],
            "traffic": { "2": { "packets": 7, "bytes": 462, "flows": 1 } },
        }],
        "received": 9,
        "reasons": { "not_vip": 2, "established_flow": 7, "from_vip": 0 },
    }))
    .unwrap()
}

#[test]
fn a_status_survives_the_way_over_the_socket() {
    let status = sent();
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[test]
fn the_table_says_who_serves_and_why_others_do_not() {
    let text = status(&sent());
    let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap().to_owned();
    assert!(line("cluster").contains("director on eth0 (02:00:00:00:00:15), active"));
    assert_eq!(
        line("flows "),
        "flows established 700 of 1024 (IPv6 0 of 1024), pending 12 of 1024 (IPv6 3 of 1024)"
    );
    assert!(line("primary").contains("does not answer, stale since 12 s"));
    let words: Vec<_> = line("db2").split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        words,
        ["db2", "10.0.0.2", "2", "up", "quorum", "96", "B", "02:00:00:00:00:01", "1", "7"]
    );
    assert!(line("db3").contains("0 (of 2)"));
    assert!(line("db3").contains("dead"));
    assert!(line("db3").contains("drained by an operator, its port refuses connections"));
    assert!(line("frames 9").contains("established_flow 7, not_vip 2"));
    assert!(!text.contains("from_vip"), "reasons that never were are not shown");
}

#[test]
fn the_table_tells_both_families_and_several_interfaces_apart() {
    let mut sent = sent();
    let second = InterfaceStatus { name: "eth1".to_owned(), mac: "02:00:00:00:01:15".to_owned() };
    sent.director.interfaces.push(second);
    let view = &mut sent.services[0].view;
    view.vip = "fd00::100".parse().unwrap();
    view.servers[0].address = "fd00::2".parse().unwrap();
    view.servers[0].interface = Some(1);
    let text = status(&sent);
    assert!(
        text.contains("director on eth0 (02:00:00:00:00:15), eth1 (02:00:00:00:01:15), active")
    );
    assert!(text.contains("service reader [fd00::100]:5432 scheduler rr"));
    let line = text.lines().find(|line| line.contains("db2")).unwrap();
    assert!(line.contains(" fd00::2 "), "{line}");
    assert!(line.contains("02:00:00:00:00:01 on eth1"), "{line}");
}
