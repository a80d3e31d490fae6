use pgha_machine::balancer::Withheld;
use serde_json::json;

use super::*;

/// A server that is well and serves, with these fields changed.
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
    let out = |reason: Withheld| ("withheld", json!([reason]));
    let drained = ("drained", json!({ "by": "root", "at": 1 }));
    assert_eq!(state(&[]), ServerState::Up);
    assert_eq!(state(&[out(Withheld::Drained), drained]), ServerState::Drained);
    // `pgha undrain` would not bring it back.
    assert_eq!(state(&[out(Withheld::WeightZero), ("weight", json!(0))]), ServerState::Out);
    assert_eq!(state(&[out(Withheld::Lagging)]), ServerState::Out);
    let checking = ("health", json!("checking"));
    assert_eq!(state(&[out(Withheld::Unproven), checking]), ServerState::Checking);
    let down = ("health", json!("down"));
    let primary = [out(Withheld::NotInRecovery), down.clone(), ("role", json!("primary"))];
    assert_eq!(state(&primary), ServerState::Primary);
    assert_eq!(state(&[out(Withheld::Refused), down]), ServerState::Down);
}

#[test]
fn who_serves_is_up_and_who_fails_its_checks_is_not_drained() {
    // The primary that readers fall back to.
    let down = ("health", json!("down"));
    assert_eq!(state(&[down.clone(), ("role", json!("primary"))]), ServerState::Up);
    let drained = [
        ("withheld", json!([Withheld::Drained, Withheld::Refused])),
        ("drained", json!({ "by": "root", "at": 1 })),
        down,
    ];
    assert_eq!(state(&drained), ServerState::Down);
    let dead = [&drained[..], &[("dead", json!(true))]].concat();
    assert_eq!(state(&dead), ServerState::Dead);
}

#[test]
fn people_and_programs_read_the_same_word() {
    for state in [
        ServerState::Up,
        ServerState::Drained,
        ServerState::Out,
        ServerState::Checking,
        ServerState::Down,
        ServerState::Dead,
        ServerState::Primary,
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
    }
}

#[test]
fn since_when_a_server_is_stale_is_told_by_the_clock_on_the_wall() {
    let mut server: ServerView = serde_json::from_value(json!({
        "name": null, "address": "10.0.0.2", "id": 1, "mac": null, "interface": null, "local": false,
        "listed": true, "sync_state": null, "health": "up", "dead": false, "weight": 1,
        "effective_weight": 1, "drained": null, "weight_set": null, "withheld": [], "replayed": null,
        "lag_bytes": null, "error": null,
    }))
    .unwrap();
    assert_eq!(StateStatus::of(&server, 1_000).stale_since, None);
    server.stale_ms = Some(12_345);
    assert_eq!(StateStatus::of(&server, 1_000).stale_since, Some(988));
}
