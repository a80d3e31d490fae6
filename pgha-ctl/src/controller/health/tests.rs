use pgha_machine::balancer::{Standing, Withheld};
use serde_json::json;

use super::*;

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn server(last: u8, change: impl FnOnce(&mut ServerView)) -> ServerView {
    let mut server: ServerView = serde_json::from_value(json!({
        "address": address(last), "id": last, "local": false, "listed": true, "health": "up",
        "dead": false, "weight": 1, "effective_weight": 1, "withheld": [], "role": "standby",
        "lag_bytes": 1_000_000, "lag_ms": 1_500,
    }))
    .unwrap();
    assert_eq!(server.health, Standing::Up);
    change(&mut server);
    server
}

fn service(servers: Vec<ServerView>) -> ServiceView {
    let mut service: ServiceView = serde_json::from_value(json!({
        "name": "reader", "vip": "10.0.0.100", "port": 5432, "scheduler": "maglev",
        "discovery": "both", "servers": [],
    }))
    .unwrap();
    service.servers = servers;
    service
}

#[test]
fn a_lag_is_bytes_or_a_time() {
    let seconds = |seconds| Some(Lag::Time(Duration::from_secs(seconds)));
    for (text, lag) in [
        ("0", Some(Lag::Bytes(0))),
        ("100", Some(Lag::Bytes(100))),
        ("16kB", Some(Lag::Bytes(16_384))),
        ("10MB", Some(Lag::Bytes(10_485_760))),
        ("1GB", Some(Lag::Bytes(1 << 30))),
        ("5s", seconds(5)),
        ("2min", seconds(120)),
        ("500ms", Some(Lag::Time(Duration::from_millis(500)))),
        ("1M", None),
        ("3days", None),
        ("-1", None),
        ("", None),
        ("MB", None),
        ("10mb", None),
        ("18446744073709551615GB", None),
    ] {
        assert_eq!(Lag::parse(text), lag, "{text:?}");
    }
}

#[test]
fn a_replica_gets_new_connections_and_is_near_enough() {
    let services = [
        service(vec![
            server(1, |_| {}),
            server(2, |server| {
                server.effective_weight = EffectiveWeight::ZERO;
                server.withheld = vec![Withheld::Drained, Withheld::NoMac];
            }),
            server(3, |server| {
                server.role = ServerRole::Primary;
            }),
        ]),
        service(vec![
            server(1, |_| {}),
            server(4, |server| {
                server.lag_bytes = None;
                server.lag_ms = None;
            }),
        ]),
    ];
    let asked = |node: Option<u8>, lag: Option<&str>| {
        let lag = lag.map(|lag| Lag::parse(lag).unwrap());
        let reply = replica(&services, node.map(address), lag);
        assert_eq!(reply.healthy, reply.reason.is_none());
        reply.reason.map_or(Ok(reply.servers), Err)
    };
    let yes = |servers: &[u8]| Ok(servers.iter().copied().map(address).collect::<Vec<_>>());
    let no = |reason: &str| Err(reason.to_owned());
    assert_eq!(asked(None, None), yes(&[1, 4]));
    assert_eq!(asked(None, Some("1MB")), yes(&[1]));
    assert_eq!(asked(None, Some("2s")), yes(&[1]));
    assert_eq!(asked(None, Some("1s")), no("no standby is known to be that little behind"));
    assert_eq!(asked(Some(1), Some("10kB")), no("10.0.0.1 is not known to be that little behind"));
    // What is not known is not little.
    assert_eq!(asked(Some(4), Some("10GB")), no("10.0.0.4 is not known to be that little behind"));
    let drained = format!(
        "10.0.0.2 gets no new connections: {}, {}",
        Withheld::Drained.phrase(),
        Withheld::NoMac.phrase()
    );
    assert_eq!(asked(Some(2), None), Err(drained));
    assert_eq!(asked(Some(3), None), no("10.0.0.3 is not known to be a standby"));
    assert_eq!(asked(Some(9), None), no("10.0.0.9 is no real server"));
    assert_eq!(replica(&[], None, None).reason.unwrap(), "no standby gets new connections");
}

#[test]
fn a_primary_is_known_and_answers() {
    let status = |answers, host: Option<IpAddr>| -> PrimaryStatus {
        serde_json::from_value(json!({ "answers": answers, "host": host, "errors": [] })).unwrap()
    };
    let (fresh, stale) = (status(true, Some(address(1))), status(false, Some(address(1))));
    assert_eq!(primary(Some(&fresh), None), HealthReply::yes(vec![address(1)]));
    assert_eq!(primary(Some(&fresh), Some(address(1))), HealthReply::yes(vec![address(1)]));
    assert_eq!(primary(Some(&fresh), Some(address(2))).reason.unwrap(), "the primary is 10.0.0.1");
    for unknown in [stale, status(false, None), status(true, None)] {
        let reply = primary(Some(&unknown), Some(address(1)));
        assert_eq!(reply.reason.unwrap(), "the primary does not answer");
    }
    let reply = primary(None, None).reason.unwrap();
    assert_eq!(reply, "no service asks the primary, so it is not known");
}

#[test]
fn no_client_is_sent_to_one_of_several_primaries() {
    let claim = |last| json!({ "name": null, "host": address(last), "port": 5432, "timeline": 1, "system": "7" });
    let several: PrimaryStatus = serde_json::from_value(json!({
        "answers": true, "host": address(1), "errors": [], "several": [claim(1), claim(4)],
    }))
    .unwrap();
    for node in [None, Some(address(1)), Some(address(4))] {
        let reply = primary(Some(&several), node);
        assert!(!reply.healthy && reply.servers.is_empty(), "{reply:?}");
        assert_eq!(
            reply.reason.unwrap(),
            "several hosts say that they are the primary: 10.0.0.1, 10.0.0.4"
        );
    }
}
