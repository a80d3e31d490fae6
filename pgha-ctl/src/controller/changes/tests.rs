use pgha_machine::balancer::ServiceView;
use serde_json::json;

use super::*;

fn view(servers: &[(u16, &str, &[&str])]) -> ServiceView {
    let servers = servers.iter().map(|(id, health, withheld)| {
        json!({
            "name": null, "address": format!("10.0.0.{id}"), "id": id, "mac": null, "interface": null,
            "local": false, "listed": true, "sync_state": null, "health": health, "dead": false,
            "weight": 1, "effective_weight": 1, "drained": null, "weight_set": null,
            "withheld": withheld, "replayed": null, "lag_bytes": null, "error": null,
        })
    });
    serde_json::from_value(json!({
        "name": "reader", "vip": "10.0.0.100", "port": 5432, "scheduler": "rr", "discovery": "both",
        "servers": servers.collect::<Vec<_>>(),
    }))
    .unwrap()
}

fn since(changes: &Changes, view: &ServiceView, id: u16) -> (u64, Vec<(Withheld, u64)>) {
    let changed = changes.of(view).remove(&id).unwrap();
    (changed.state, changed.withheld.iter().map(|since| (since.reason, since.since)).collect())
}

#[test]
fn a_state_and_each_reason_have_their_own_beginning() {
    let mut changes = Changes::default();
    let up = view(&[(2, "up", &[]), (3, "up", &[])]);
    changes.observe(std::slice::from_ref(&up), 10);
    changes.observe(std::slice::from_ref(&up), 20);
    assert_eq!(since(&changes, &up, 2), (10, vec![]));

    let lagging = view(&[(2, "up", &["lagging"]), (3, "up", &[])]);
    changes.observe(std::slice::from_ref(&lagging), 30);
    let both = view(&[(2, "up", &["lagging", "not_streaming"]), (3, "up", &[])]);
    changes.observe(std::slice::from_ref(&both), 40);
    // Another reason is no other state.
    assert_eq!(
        since(&changes, &both, 2),
        (30, vec![(Withheld::Lagging, 30), (Withheld::NotStreaming, 40)])
    );
    let other = view(&[(2, "down", &["not_streaming"]), (3, "up", &[])]);
    changes.observe(std::slice::from_ref(&other), 50);
    assert_eq!(since(&changes, &other, 2), (50, vec![(Withheld::NotStreaming, 40)]));
    assert_eq!(since(&changes, &other, 3), (10, vec![]), "the other one stays as it was");

    // A reason that comes back is a new one, and so is a member.
    changes.observe(std::slice::from_ref(&up), 60);
    changes.observe(std::slice::from_ref(&lagging), 70);
    assert_eq!(since(&changes, &lagging, 2), (70, vec![(Withheld::Lagging, 70)]));
    changes.observe(&[view(&[(2, "up", &[])])], 80);
    changes.observe(std::slice::from_ref(&up), 90);
    assert_eq!(since(&changes, &up, 3), (90, vec![]));
}
