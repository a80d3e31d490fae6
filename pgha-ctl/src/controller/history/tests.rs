use serde_json::{Value, json};

use super::*;

/// A status with these servers, by the last number of their address, whose counters say `count`.
fn status(servers: &[u8], count: u64) -> Status {
    let ids = || servers.iter().map(|last| u16::from(*last));
    let view = |id: u16| {
        json!({
            "name": null, "address": format!("10.0.0.{id}"), "id": id, "mac": null, "interface": null,
            "local": false, "listed": true, "sync_state": null, "health": "up", "dead": false,
            "weight": 2, "effective_weight": 1.5, "drained": null, "weight_set": null, "withheld": [],
            "replayed": null, "lag_bytes": count * 10, "lag_ms": null, "error": null,
            "connections": { "used": 7, "most": 100 },
        })
    };
    let traffic = |id: u16| {
        let numbers =
            json!({ "packets": count, "bytes": count * 100, "flows": count / 2, "open": 3 });
        (id.to_string(), numbers)
    };
    let traffic: serde_json::Map<String, Value> = ids().map(traffic).collect();
    serde_json::from_value(json!({
        "schema": SCHEMA, "version": "1.2.3", "cluster": "main", "primary": null, "started": 1,
        "director": {
            "interfaces": [], "attached": true, "mode": "native", "active": true, "role": "active",
            "flows": 1, "flows_ipv6": 1, "pending_flows": 1, "pending_flows_ipv6": 1, "pid": 1,
            "taken_over": false,
        },
        "services": [{
            "name": "reader", "vip": "10.0.0.100", "port": 5432, "scheduler": "rr",
            "discovery": "both", "servers": ids().map(view).collect::<Vec<_>>(), "traffic": traffic,
        }],
        "received": count, "reasons": { "not_vip": count, "fragment": 0 },
    }))
    .unwrap()
}

#[test]
fn columns_have_a_value_for_each_moment() {
    let mut history = History::default();
    history.push(10_000, &status(&[2], 4));
    history.push(12_000, &status(&[2, 3], 8));
    history.push(14_000, &status(&[3], 12));
    let reply = written(&history.since(0), 15_000);

    assert_eq!((reply.at, reply.now), (vec![10_000, 12_000, 14_000], 15_000));
    assert_eq!(reply.received, [4, 8, 12]);
    // What never occurred is left out.
    assert_eq!(reply.reasons, BTreeMap::from([("not_vip".to_owned(), vec![4, 8, 12])]));
    assert_eq!(reply.actions, BTreeMap::from([("not_vip".to_owned(), "pass".to_owned())]));
    let [service] = &reply.services[..] else { panic!("{:?}", reply.services) };
    let [second, third] = &service.servers[..] else { panic!("{:?}", service.servers) };
    assert_eq!(second.packets, [Some(4), Some(8), None]);
    assert_eq!(third.packets, [None, Some(8), Some(12)]);
    assert_eq!(third.bytes, [None, Some(800), Some(1_200)]);
    assert_eq!(third.flows, [None, Some(4), Some(6)]);
    assert_eq!(third.open, [None, Some(3), Some(3)]);
    assert_eq!(third.weight, [None, Some(1_500), Some(1_500)]);
    assert_eq!(third.lag_bytes, [None, Some(80), Some(120)]);
    assert_eq!(third.lag_ms, [None; 3]);
    assert_eq!(third.connections, [None, Some(7), Some(7)]);
    assert_eq!(third.state, [None, Some(ServerState::Up), Some(ServerState::Up)]);
}

#[test]
fn only_later_samples_than_the_moment_are_sent() {
    let mut history = History::default();
    for now in [10_000, 12_000, 14_000] {
        history.push(now, &status(&[2], now));
    }
    assert_eq!(written(&history.since(12_000), 0).at, [14_000]);
    let nothing = written(&history.since(14_000), 0);
    assert!(nothing.at.is_empty() && nothing.services.is_empty());
}

#[test]
fn samples_are_kept_for_the_span_and_no_longer() {
    let mut history = History::default();
    for second in (0..2_000).step_by(2) {
        assert!(history.is_due(second * 1_000));
        history.push(second * 1_000, &status(&[2], second));
    }
    let at = written(&history.since(0), 0).at;
    assert_eq!((at.first(), at.last(), at.len()), (Some(&1_398_000), Some(&1_998_000), 301));
}

#[test]
fn a_timer_that_is_a_little_early_takes_its_sample_and_a_second_one_does_not() {
    let mut history = History::default();
    history.push(10_000, &status(&[2], 1));
    assert!(!history.is_due(10_000));
    assert!(!history.is_due(10_900));
    assert!(history.is_due(11_990));
}

#[test]
fn a_clock_that_is_set_back_begins_a_new_history_at_once() {
    let mut history = History::default();
    for now in [10_000, 12_000, 3_000, 5_000] {
        assert!(history.is_due(now), "{now}");
        history.push(now, &status(&[2], 1));
    }
    assert_eq!(written(&history.since(0), 0).at, [3_000, 5_000]);
    assert_eq!(history.rows, 2);
}

#[test]
fn of_many_servers_samples_are_taken_less_often_and_go_as_far_back() {
    let servers: Vec<u8> = (1..=250).collect();
    let mut history = History::default();
    let mut taken = 0;
    for second in (0..1_300).step_by(2) {
        if history.is_due(second * 1_000) {
            history.push(second * 1_000, &status(&servers, second));
            taken += 1;
        }
        assert!(history.rows <= ROWS);
    }
    let at = written(&history.since(0), 0).at;
    assert!(at.len() < 300 && taken > at.len(), "{} of {taken}", at.len());
    let span = at[at.len() - 1] - at[0];
    assert!(span >= millis(SPAN) * 9 / 10, "{span}");
    let kept: usize = history.samples.iter().map(|sample| sample.rows.len()).sum();
    assert_eq!(kept, history.rows);
}

#[test]
fn who_is_sampled_is_listed_once_as_long_as_nobody_comes_or_goes() {
    let mut history = History::default();
    for (now, servers) in [(1, &[2, 3][..]), (2, &[2, 3]), (3, &[3])] {
        history.push(now, &status(servers, now));
    }
    let samples = history.since(0);
    assert!(Arc::ptr_eq(&samples[0].keys, &samples[1].keys));
    assert!(!Arc::ptr_eq(&samples[1].keys, &samples[2].keys));
}

#[test]
fn a_row_is_as_small_as_the_bound_on_memory_says() {
    assert!(size_of::<Row>() <= 80, "{}", size_of::<Row>());
}
