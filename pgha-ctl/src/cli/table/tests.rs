use serde_json::json;

use super::*;
use crate::cli::fixture::{self, NOW};

fn shown(status: &Status) -> String {
    super::status(status, NOW)
}

#[test]
fn a_status_survives_the_way_over_the_socket() {
    let status = fixture::status();
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[test]
fn the_table_says_who_serves_and_why_others_do_not() {
    assert_eq!(
        shown(&fixture::status()).lines().collect::<Vec<_>>(),
        [
            "cluster main: director on eth0 (02:00:00:00:00:15), active",
            "flows established 700 of 1024 (IPv6 0 of 1024), pending 12 of 1024 (IPv6 3 of 1024)",
            "primary 10.0.0.1: does not answer, stale since 2026-11-22 02:59:48 (12 s); the readers stay as they \
             are (10.0.0.1: no answer)",
            "",
            "service reader 10.0.0.100:5432 scheduler rr discovery both: 1 of 2 serve",
            " SERVER  ADDRESS   ROLE     STATE  WEIGHT    SYNC    LAG          CONNS   SINCE   OPEN  FLOWS  \
             PACKETS  VIP        MAC",
            " db2     10.0.0.2  standby  up     2         quorum  96 B, 12 ms  12/100  12 min  1     1      \
             7        ok         02:00:00:00:00:01",
            " db3     10.0.0.3  unknown  dead   0 (of 2)  -       -            -       5 s     0     0      \
             0        unchecked  02:00:00:00:00:01",
            "   - drained by alice 1 min ago; its port refuses connections (connection refused)",
            "",
            // Reasons that never were are not shown.
            "frames 9: established_flow 7, not_vip 2",
        ]
    );
}

#[test]
fn the_table_tells_both_families_and_several_interfaces_apart() {
    let mut sent = fixture::status();
    let second = InterfaceStatus { name: "eth1".to_owned(), mac: "02:00:00:00:01:15".to_owned() };
    sent.director.interfaces.push(second);
    let view = &mut sent.services[0].view;
    view.vip = "fd00::100".parse().unwrap();
    view.servers[0].address = "fd00::2".parse().unwrap();
    view.servers[0].interface = Some(1);
    let text = shown(&sent);
    assert!(
        text.contains("director on eth0 (02:00:00:00:00:15), eth1 (02:00:00:00:01:15), active")
    );
    assert!(text.contains("service reader [fd00::100]:5432 scheduler rr"));
    let line = text.lines().find(|line| line.contains("db2")).unwrap();
    assert!(line.contains(" fd00::2 "), "{line}");
    assert!(line.contains("02:00:00:00:00:01 on eth1"), "{line}");
}

#[test]
fn what_there_is_to_say_of_a_server_stands_below_it() {
    let mut sent = fixture::value();
    let db2 = &mut sent["services"][0]["servers"][0];
    db2["effective_weight"] = json!(0.6);
    db2["weight_reasons"] = json!([
        { "why": "set", "weight": 2, "stamp": { "by": "bob", "at": NOW - 7200 } },
        { "why": "slow_start", "percent": 30, "left_ms": 21_000 },
    ]);
    db2["weight_set"] = json!({ "by": "bob", "at": NOW - 7200 });
    db2["answers_arp"] = json!(true);
    let text = shown(&fixture::read(sent));
    let mut lines = text.lines().skip_while(|line| !line.contains(" 10.0.0.2 "));
    let row = lines.next().unwrap();
    assert!(row.contains(" 0.6 (of 2) ") && row.contains(" ok, answers ARP "), "{row}");
    assert_eq!(
        lines.next().unwrap(),
        "   - weight 2 set by bob 2 h ago; 30 % while it starts slowly, 21 s to go; answers ARP for the VIP, \
         which draws clients past the director"
    );
}

#[test]
fn a_service_without_servers_says_so() {
    let mut sent = fixture::status();
    sent.services[0].view.servers.clear();
    assert!(shown(&sent).contains("discovery both: 0 of 0 serve\n no real server\n"));
}

#[test]
fn it_is_said_that_orders_hold_here_only_where_there_are_other_directors() {
    let line = "orders hold on this director only: lb2 keeps its own; give it the same with --to";
    assert!(!shown(&fixture::status()).contains("orders hold"));
    let mut sent = fixture::value();
    sent["director"]["peers"] = json!([{ "name": "lb2", "addresses": ["10.0.0.22"] }]);
    let status = fixture::read(sent.clone());
    assert!(shown(&status).lines().any(|shown| shown == line), "{}", shown(&status));
    sent["store"] = json!({
        "kind": "etcd", "path": "", "shared": true, "incarnation": null, "revision": null,
        "answers": true, "error": null, "stale_since": null,
    });
    assert!(!shown(&fixture::read(sent)).contains("orders hold"));
}

#[test]
fn a_primary_that_is_no_reader_is_not_blamed_for_the_vip() {
    let mut sent = fixture::value();
    let server = &mut sent["services"][0]["servers"][0];
    for (key, value) in [
        ("health", json!("down")),
        ("role", json!("primary")),
        ("withheld", json!(["not_in_recovery"])),
        ("vip", json!("silent")),
        ("vip_error", json!("no answer in 1 s")),
    ] {
        server[key] = value;
    }
    let text = shown(&fixture::read(sent.clone()));
    assert!(!text.contains("through the VIP") && !text.contains("silent"), "{text}");
    sent["services"][0]["servers"][0]["withheld"] = json!(["not_in_recovery", "vip_silent"]);
    assert!(shown(&fixture::read(sent)).contains("through the VIP: no answer in 1 s"));
}

#[test]
fn who_stays_as_he_was_and_a_director_that_is_cut_off_are_told() {
    let mut sent = fixture::value();
    let server = &mut sent["services"][0]["servers"][0];
    server["stale_ms"] = json!(12_345);
    server["error"] = json!("no answer within 1000 ms");
    sent["director"]["cut_off"] = json!("no server and no primary answers it");
    let text = shown(&fixture::read(sent));
    for line in [
        "this director is cut off: no server and no primary answers it; the readers stay as they are",
        "   - its checks tell nothing, stale since 2026-11-22 02:59:48 (12 s); it stays as it was (no answer \
         within 1000 ms)",
    ] {
        assert!(text.lines().any(|shown| shown == line), "`{line}` in\n{text}");
    }
}
