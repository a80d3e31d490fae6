use pgha_machine::balancer::Withheld;
use serde_json::{Value, json};

use super::*;
use crate::cli::fixture::{self, NOW};

/// What is said of the first server, with these things changed.
fn of_db2(changes: &Value) -> WhyNot {
    let mut sent = fixture::value();
    for (key, value) in changes.as_object().unwrap() {
        sent["services"][0]["servers"][0][key] = value.clone();
    }
    why_not(&fixture::read(sent), "db2", None, NOW).unwrap()
}

#[test]
fn a_node_that_serves_has_no_reason() {
    for name in ["db2", "10.0.0.2", "10.0.0.2:5432"] {
        let answer = why_not(&fixture::status(), name, None, NOW).unwrap();
        assert!(answer.serves, "{name}");
        assert_eq!(
            text(&answer, NOW),
            "db2 (10.0.0.2) in service reader 10.0.0.100:5432 gets new connections: weight 2 \
             (up since 2026-11-22 02:48:00, 12 min)\n\
             also: primary 10.0.0.1: does not answer, stale since 2026-11-22 02:59:48 (12 s); the readers stay as \
             they are (10.0.0.1: no answer)\n"
        );
    }
}

#[test]
fn every_reason_is_told_with_its_beginning_and_what_mends_it() {
    let answer = why_not(&fixture::status(), "db3", Some("reader"), NOW).unwrap();
    assert!(!answer.serves);
    assert_eq!(
        text(&answer, NOW),
        "\
db3 (10.0.0.3) in service reader 10.0.0.100:5432 gets no new connections (dead since 2026-11-22 02:59:55, 5 s)
  1. drained by alice, since 2026-11-22 02:59:00 (1 min)
     means: the sessions it has stay, new ones go elsewhere, until somebody takes that back
     to mend: pgha undrain db3
  2. its port refuses connections, since 2026-11-22 02:59:55 (5 s)
     means: nothing listens on 10.0.0.3:5432: PostgreSQL is down there, or listens elsewhere
     found: connection refused
     to mend: start PostgreSQL on db3; see port and listen_addresses in its postgresql.conf
also: primary 10.0.0.1: does not answer, stale since 2026-11-22 02:59:48 (12 s); the readers stay as they are \
(10.0.0.1: no answer)
"
    );
}

#[test]
fn each_reason_the_machine_knows_has_its_advice() {
    // The machine's own list of reasons, by their words: serde refuses one that is none.
    for word in [
        "drained",
        "weight_zero",
        "unproven",
        "refused",
        "silent",
        "not_accepting",
        "failing",
        "not_in_recovery",
        "foreign_system",
        "diverged",
        "not_listed",
        "not_streaming",
        "lagging",
        "no_mac",
        "vip_unproven",
        "vip_silent",
        "vip_refused",
        "vip_not_accepting",
    ] {
        let withheld: Withheld = serde_json::from_value(json!(word)).unwrap();
        let answer = of_db2(&json!({ "withheld": [word], "effective_weight": 0 }));
        let reason = &answer.services[0].reasons[0];
        assert_eq!((reason.reason.as_str(), reason.withholds), (word, true));
        assert_eq!(reason.says, withheld.phrase());
        for text in [&reason.meaning, &reason.mend] {
            assert!(text.len() > 10 && !text.contains("  "), "{word}: {text}");
        }
    }
    let missing = of_db2(&json!({ "withheld": ["vip_silent"], "vip_error": "no answer in 1 s" }));
    let reason = &missing.services[0].reasons[0];
    assert_eq!(reason.found.as_deref(), Some("no answer in 1 s"));
    assert_eq!(
        reason.mend,
        "on db2: pgha realserver setup --vip 10.0.0.100; else firewalls for that address"
    );
}

#[test]
fn a_node_that_gets_less_than_its_weight_serves_and_has_its_reasons() {
    let answer = of_db2(&json!({
        "effective_weight": 0.5, "answers_arp": true, "vip": "undecided", "vip_error": "no raw socket",
        "weight_reasons": [
            { "why": "node", "weight": 2 },
            { "why": "slow_start", "percent": 50, "left_ms": 3000 },
            { "why": "lag", "percent": 50 },
            { "why": "tolerated", "of": "lagging" },
        ],
    }));
    assert!(answer.serves);
    let reasons: Vec<_> = answer.services[0].reasons.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(reasons, ["slow_start", "lag", "tolerated", "answers_arp", "vip_undecided"]);
    assert!(answer.services[0].reasons.iter().all(|reason| !reason.withholds));
    assert!(text(&answer, NOW).contains("gets fewer new connections: weight 0.5 of 2"));
    let back: WhyNot = serde_json::from_value(serde_json::to_value(&answer).unwrap()).unwrap();
    assert_eq!(back, answer);
}

#[test]
fn who_is_no_member_is_told_what_is_known() {
    let listed = why_not(&fixture::status(), "db4", None, NOW).unwrap();
    assert_eq!((listed.serves, listed.services[0].state.as_str()), (false, "absent"));
    assert_eq!(listed.services[0].reasons[0].reason, "not_seen");
    assert!(listed.services[0].reasons[0].mend.contains("application_name=db4"));

    let primary = why_not(&fixture::status(), "10.0.0.1", None, NOW).unwrap();
    assert_eq!(primary.services[0].reasons[0].reason, "primary");

    let refused =
        |node, service| why_not(&fixture::status(), node, service, NOW).unwrap_err().error;
    assert_eq!(
        refused("db22", None),
        "\"db22\" is no real server, not in the node table, and does not stream under that name; did you \
         mean db2?"
    );
    let mut sent = fixture::value();
    sent["primary"]["unplaced"] =
        json!([{ "application_name": "standby9", "client": null, "reason": "unix_socket" }]);
    let unplaced = why_not(&fixture::read(sent), "standby9", None, NOW).unwrap_err().error;
    assert!(unplaced.starts_with("what streams as \"standby9\" is no reader: "), "{unplaced}");
    assert!(refused("10.0.0.9", None).ends_with("known are: db2, db3, db4"));
    assert_eq!(
        refused("db2", Some("writer")),
        "no such service; those of this director are: reader"
    );
}

#[test]
fn what_needs_a_person_and_whom_a_cascaded_standby_streams_from_is_told_too() {
    let mut sent = fixture::value();
    let servers = &mut sent["services"][0]["servers"];
    servers[0]["upstream"] = json!("10.0.0.3");
    servers[0]["withheld"] = json!(["vip_silent"]);
    servers[0]["vip"] = json!("silent");
    servers[0]["vip_error"] = json!("no answer in 1 s");
    sent["services"][0]["probes"] = json!({ "10.0.0.2": {
        "open": 0, "refused": 0, "not_accepting": 0, "silent": 3, "undecided": 0,
        "said": "10.0.0.9: host unreachable",
    } });
    sent["store"] = json!({
        "kind": "local", "path": "/s", "incarnation": null, "revision": null, "answers": false,
        "error": "the disk is full", "stale_since": NOW,
    });
    let answer = why_not(&fixture::read(sent), "db2", None, NOW).unwrap();
    assert_eq!(
        answer.services[0].reasons[0].found.as_deref(),
        Some("no answer in 1 s (10.0.0.9: host unreachable)")
    );
    let text = text(&answer, NOW);
    assert!(text.lines().next().unwrap().ends_with(", streams from db3"), "{text}");
    assert!(text.contains("\nalso: primary 10.0.0.1: does not answer, stale since "), "{text}");
    assert!(text.contains("\nalso: store: the disk is full, stale since "), "{text}");
}

#[test]
fn why_a_managed_node_does_not_become_the_primary_is_told_with_what_mends_it() {
    let status = |unfit: serde_json::Value, why: serde_json::Value| -> FailoverStatus {
        let process = json!({
            "heard_ms": 4, "silent": false, "fault": false, "faulty": false, "failsafe": false, "frozen": true,
            "unfit": unfit,
        });
        serde_json::from_value(json!({
            "schema": 1, "controller": "lb1", "stage": "frozen", "in_stage_ms": 4, "store_answers": true,
            "renewed_ms": null, "why_not": why, "awaits": ["lease: 7 ms more"],
            "processes": { "db2": process }, "record": null,
        }))
        .unwrap()
    };
    let of = |status: &FailoverStatus| {
        let (node, process) = status.processes.iter().next().unwrap();
        Candidate::seen(status, node, process)
    };
    let fit = of(&status(json!(null), json!(null)));
    assert!(fit.may && fit.text().starts_with("db2 itself could become the primary\n"), "{fit:?}");
    let alone = of(&status(json!(null), json!("1 of 2 voters")));
    assert!(!alone.may, "{alone:?}");
    for part in
        ["nobody follows the primary: 1 of 2 voters", "pgha force-primary NODE", "lease: 7 ms more"]
    {
        assert!(alone.text().contains(part), "{part} in {}", alone.text());
    }
    let unfit = of(&status(json!("it is marked nofailover"), json!(null)));
    assert!(unfit.text().starts_with("db2 does not become the primary: it is marked nofailover"));
    assert!(!unfit.text().contains("pgha status"), "{}", unfit.text());
    let mut ill = status(json!("its disk does not write, or its link is down"), json!(null));
    ill.processes.values_mut().for_each(|process| process.faulty = true);
    assert!(
        of(&ill)
            .text()
            .contains("what its disk or its link said is below the nodes in pgha status")
    );
    // Whoever is no member of the record is no candidate of anything.
    assert_eq!(Candidate::of(&status(json!(null), json!(null)), "db2"), None);
}
