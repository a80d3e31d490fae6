use pgha_machine::balancer::Withheld;
use serde_json::json;

use super::*;

/// A server that is well, with these fields changed.
fn state(changes: &[(&str, serde_json::Value)]) -> ServerState {
    let mut server = json!({
        "name": "db2", "address": "10.0.0.2", "id": 1, "mac": null, "interface": null, "local": false,
        "listed": true, "sync_state": null, "health": "up", "dead": false, "weight": 1,
        "effective_weight": 1, "drained": null, "weight_set": null, "withheld": [],
        "replayed": null, "lag_bytes": null, "error": null,
    });
    for (field, value) in changes {
        server[*field] = value.clone();
    }
    ServerState::of(&serde_json::from_value(server).unwrap())
}

#[test]
fn every_state_is_told_apart() {
    let none = ("effective_weight", json!(0));
    let withheld = ("withheld", json!([Withheld::Unproven]));
    assert_eq!(state(&[]), ServerState::Up);
    assert_eq!(
        state(&[none.clone(), ("drained", json!({ "by": "root", "at": 1 }))]),
        ServerState::Draining
    );
    assert_eq!(state(&[none.clone(), ("weight", json!(0))]), ServerState::Draining);
    assert_eq!(state(&[none.clone(), withheld]), ServerState::Withheld);
    assert_eq!(state(&[none.clone(), ("health", json!("checking"))]), ServerState::Checking);
    assert_eq!(state(&[none.clone(), ("health", json!("down"))]), ServerState::Down);
    let primary = [none, ("health", json!("down")), ("role", json!("primary"))];
    assert_eq!(state(&primary), ServerState::Primary);
}

#[test]
fn who_serves_is_up_and_who_is_down_is_not_draining() {
    assert_eq!(state(&[("health", json!("down"))]), ServerState::Up);
    let down = [
        ("effective_weight", json!(0)),
        ("health", json!("down")),
        ("drained", json!({ "by": "root", "at": 1 })),
        ("dead", json!(true)),
    ];
    assert_eq!(state(&down), ServerState::Down);
}
