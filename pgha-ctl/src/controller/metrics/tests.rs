use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::*;

fn status() -> Status {
    let reasons: serde_json::Map<_, _> = (1u64..)
        .zip(Reason::ALL)
        .map(|(count, reason)| (reason.name().to_owned(), count.into()))
        .collect();
    serde_json::from_value(json!({
        "schema": 3, "version": "1.2.3", "cluster": "main", "started": 1_700_000_000,
        "director": {
            "interfaces": [], "attached": true, "mode": "native", "active": true, "role": "active", "flows": 10,
            "flows_ipv6": 11, "pending_flows": 12, "pending_flows_ipv6": 13, "pid": 1, "taken_over": false,
            "in_use": { "flows": 1, "flows_ipv6": 2, "pending_flows": 3, "pending_flows_ipv6": 4 },
        },
        "primary": null,
        "services": [{
            "name": "reader", "vip": "fd00::100", "port": 5432, "scheduler": "rr", "discovery": "both",
            "servers": [{
                "name": null, "address": "10.0.0.2", "id": 7, "mac": null, "interface": null,
                "local": false, "listed": true, "sync_state": null, "health": "up", "dead": false,
                "weight": 3, "effective_weight": 3, "drained": null, "weight_set": null,
                "withheld": [], "replayed": null, "lag_bytes": 4096, "error": null, "stale_ms": 7_999,
            }],
            "traffic": { "7": { "packets": 5, "bytes": u64::MAX, "flows": 2, "open": 1 } },
        }],
        "received": 1081, "reasons": reasons,
    }))
    .unwrap()
}

#[test]
fn the_metrics_are_those_of_the_status() {
    let page = written(status()).unwrap();
    let server = "service=\"reader\",vip=\"fd00::100\",port=\"5432\",server=\"10.0.0.2\",address=\"10.0.0.2\"";
    for line in [
        "# TYPE pgha_frames counter".to_owned(),
        "pgha_frames_received_total 1081".to_owned(),
        "pgha_frames_total{action=\"forward\",reason=\"new_flow\"} 1".to_owned(),
        format!("pgha_server_bytes_total{{{server}}} {}", u64::MAX),
        format!("pgha_server_replay_lag_bytes{{{server}}} 4096"),
        format!("pgha_server_weight{{{server}}} 3"),
        format!("pgha_server_stale_seconds{{{server}}} 7"),
        "pgha_director_cut_off 0".to_owned(),
        "pgha_flow_table_capacity{table=\"pending\",family=\"ipv6\"} 13".to_owned(),
        "pgha_flows{table=\"established\",family=\"ipv6\"} 2".to_owned(),
        "pgha_flows{table=\"pending\",family=\"ipv4\"} 3".to_owned(),
        "pgha_director_info{cluster=\"main\",mode=\"native\"} 1".to_owned(),
        "pgha_controller_start_time_seconds 1700000000".to_owned(),
        "pgha_build_info{version=\"1.2.3\"} 1".to_owned(),
    ] {
        assert!(page.lines().any(|found| found == line), "`{line}` in\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
    assert!(!page.contains("pgha_primary_answers 0"), "nobody asks a primary");
    let mut alone = status();
    alone.director.cut_off = Some("no server and no primary answers it".to_owned());
    assert!(written(alone).unwrap().contains("\npgha_director_cut_off 1\n"));
}

#[test]
fn every_metric_has_its_own_name_in_the_words_of_prometheus() {
    let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    for family in FAMILIES {
        let legal = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(
            family.name.starts_with("pgha_") && family.name.chars().all(legal),
            "{}",
            family.name
        );
        assert!(
            !family.name.ends_with("_total") && !family.name.ends_with("_info"),
            "{}",
            family.name
        );
        for (values, _) in (family.samples)(&status()) {
            assert_eq!(values.len(), family.labels.len(), "{}", family.name);
        }
    }
}

/// The page people read is what the code says; `PGHA_UPDATE_DOCS=1` writes it anew.
#[test]
fn the_reference_is_up_to_date() {
    let mut page = String::from(
        "# Metrics\n\n`GET /metrics` on the control socket answers in OpenMetrics' text format, which Prometheus \
         reads:\n\n```\ncurl --unix-socket /run/pgha/main.sock http://localhost/metrics\n```\n\nCounters \
         outlive the controller: they begin anew with the maps. This page is generated from the controller's own \
         list.\n\n| metric | kind | labels | what |\n|---|---|---|---|\n",
    );
    for Family { name, kind, labels, help, .. } in FAMILIES {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (suffix, kind) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Info => ("_info", "info"),
        };
        writeln!(page, "| `{name}{suffix}` | {kind} | {} | {help}. |", labels.join(" ")).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    if std::env::var_os("PGHA_UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/metrics.md is not what the code says: PGHA_UPDATE_DOCS=1");
}
