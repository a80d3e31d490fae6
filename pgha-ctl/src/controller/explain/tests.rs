use super::*;

fn view(id: u16, withheld: &[Withheld]) -> ServerView {
    serde_json::from_value(serde_json::json!({
        "name": format!("db{id}"), "address": format!("10.0.0.{id}"), "id": id, "mac": null,
        "interface": null, "local": false, "listed": true, "sync_state": null, "health": "up",
        "dead": false, "weight": 1, "effective_weight": 1, "drained": null, "weight_set": null,
        "withheld": withheld, "replayed": null, "lag_bytes": null, "error": null,
    }))
    .unwrap()
}

fn because(
    id: u16,
    withheld: &[Withheld],
    picked: Option<u16>,
    reason: Reason,
    by: &str,
) -> String {
    server_explained(&view(id, withheld), picked, reason, by).because
}

#[test]
fn every_server_is_told_why() {
    let new = Reason::NewFlow;
    for (said, expected) in [
        (
            because(1, &[], Some(1), new, "rr"),
            "picked: it is its turn, if no other connection comes before",
        ),
        (
            because(1, &[], Some(1), Reason::SynAgain, "rr"),
            "picked: the SYN belongs to the connection that is known",
        ),
        (
            because(1, &[Withheld::Drained], Some(1), Reason::SynAgain, "rr"),
            "picked: the SYN belongs to the connection that is known; gets no other new connections: drained \
             by an operator",
        ),
        (
            because(2, &[], Some(1), Reason::SynAgain, "rr"),
            "not picked: the SYN belongs to a connection with another",
        ),
        (
            because(2, &[], Some(1), new, "maglev"),
            "not picked: the hash of both addresses and ports falls to another",
        ),
        (
            because(2, &[Withheld::Drained, Withheld::Silent], Some(1), new, "maglev"),
            "gets no new connections: drained by an operator, does not answer",
        ),
        (because(2, &[], None, Reason::NotAllowed, "source"), "nobody is picked: not_allowed"),
    ] {
        assert_eq!(said, expected);
    }
}
