use std::net::IpAddr;

use pgha_machine::balancer::{Node, SyncState};

use super::*;

fn walsender(name: &str, client: Option<&str>) -> NamedWalsender {
    NamedWalsender {
        application_name: name.to_owned(),
        client: client.map(|client| client.parse().unwrap()),
        sync_state: SyncState::Async,
        replay_lag: None,
        replayed: None,
    }
}

/// db2 at 10.0.0.2.
fn config() -> Config {
    let address: IpAddr = "10.0.0.2".parse().unwrap();
    let name = "db2".parse().unwrap();
    let nodes = vec![Node { name, address, weight: None }];
    Config { services: Vec::new(), nodes, rise: 2, fall: 3, local: [].into(), managed: [].into() }
}

fn reasons(walsenders: &[NamedWalsender]) -> Vec<(String, Unplaced)> {
    let unplaced = unplaced(&config(), walsenders).into_iter();
    unplaced.map(|of| (of.application_name, of.reason)).collect()
}

#[test]
fn a_walsender_that_leads_nowhere_is_told_with_the_reason() {
    let found = reasons(&[
        walsender("db2", Some("10.0.0.2")),
        walsender("walreceiver", Some("10.0.0.3")),
        walsender("walreceiver", None),
        walsender("standby9", Some("fe80::9")),
        walsender("10.0.0.4", None),
    ]);
    let wanted = [("walreceiver", Unplaced::UnixSocket), ("standby9", Unplaced::LinkLocal)];
    assert_eq!(found, wanted.map(|(name, reason)| (name.to_owned(), reason)));
}

#[test]
fn of_two_under_one_name_the_one_from_elsewhere_is_told() {
    let home = walsender("db2", Some("::ffff:10.0.0.2"));
    let other = walsender("db2", Some("10.0.0.3"));
    // Alone it may come by another address of its own.
    assert_eq!(reasons(std::slice::from_ref(&other)), []);
    assert_eq!(reasons(&[home.clone(), other]), [("db2".to_owned(), Unplaced::SharedName)]);
    assert_eq!(reasons(&[home.clone(), home]), []);
}
