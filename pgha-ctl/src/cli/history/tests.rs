use serde_json::json;

use super::*;

fn history() -> History {
    let place = json!({ "timeline": 1, "lsn": "0/3000000" });
    let ordered =
        json!({ "takeover": { "force": "db3" }, "by": "anna", "at": 1_795_316_400_000_u64 });
    serde_json::from_value(json!({
        "format": 1,
        "terms": [
            { "epoch": 1, "node": "db1", "timeline": 1, "fork": place, "at": 1_795_316_000_000_u64,
              "witnessed": false, "gap_ms": null, "cause": null,
              "degraded": [{ "from": "0/3000000", "until": "0/3000060" }] },
            { "epoch": 2, "node": "db3", "timeline": 2, "fork": place, "at": 1_795_316_401_000_u64,
              "witnessed": true, "gap_ms": 12_345,
              "cause": { "reason": "silent", "proof": "lease", "ordered": ordered, "forced": true },
              "degraded": [] },
        ],
        "incidents": [
            { "at": 1_795_316_400_000_u64, "seen_by": "lb1", "kind": "ordered", "epoch": 1, "text": "first" },
            { "at": 1_795_316_401_000_u64, "seen_by": "lb1", "kind": "promoted", "epoch": 2, "text": "second" },
        ],
    }))
    .unwrap()
}

#[test]
fn whose_word_a_forced_term_was_is_told() {
    let text = text(&history(), 1);
    let forced = text.lines().find(|line| line.starts_with(" 2")).unwrap();
    let whose = "FORCED, acknowledged commits may be lost, by anna at 2026-11-22 03:00:00";
    for part in ["db3", "0/3000000 of 1", "12 s", "lease", whose] {
        assert!(forced.contains(part), "{part} in {forced}");
    }
    let first = text.lines().find(|line| line.starts_with(" 1")).unwrap();
    for part in ["before 2026-11-22", "founded", "0/3000000 to 0/3000060"] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(text.contains("1 more before that") && text.contains("second"), "{text}");
    assert!(!text.contains("first"), "{text}");
}
