use super::*;

#[test]
fn a_flow_has_just_one_state() {
    for (table, closing, alive, expected) in [
        (FlowState::Pending, false, true, Standing::Pending),
        (FlowState::Established, false, true, Standing::Established),
        (FlowState::Pending, true, true, Standing::Closing),
        (FlowState::Established, true, true, Standing::Closing),
        (FlowState::Established, true, false, Standing::Orphaned),
        (FlowState::Pending, false, false, Standing::Orphaned),
    ] {
        assert_eq!(standing(table, closing, alive), expected);
    }
}

#[test]
fn clients_are_named_by_network_address_or_port() {
    let includes =
        |text: &str, client: &str| Clients::parse(text).unwrap().include(client.parse().unwrap());
    for (text, client, expected) in [
        ("10.0.0.0/8", "10.9.9.9:1", true),
        ("10.0.0.0/8", "11.9.9.9:1", false),
        ("10.0.0.7", "10.0.0.7:40000", true),
        ("10.0.0.7:40001", "10.0.0.7:40000", false),
        ("fd00::/64", "[fd00::9]:1", true),
        ("[fd00::9]:1", "[fd00::9]:1", true),
        ("fd00::/64", "10.0.0.7:1", false),
    ] {
        assert_eq!(includes(text, client), expected, "{text} {client}");
    }
    for wrong in ["", "10.0.0", "10.0.0.0/33", "db1", "fd00::9:x"] {
        let error = Clients::parse(wrong).unwrap_err().error;
        assert!(error.starts_with(&format!("client {wrong:?} is neither an address")), "{error}");
    }
}

#[test]
fn a_limit_beyond_what_one_reply_lists_is_refused() {
    let asked = |limit| super::limit(&FlowsQuery { limit, ..FlowsQuery::default() });
    assert_eq!(asked(None), Ok(DEFAULT_LIMIT));
    assert_eq!(asked(Some(0)), Ok(0));
    assert_eq!(asked(Some(10_000)), Ok(10_000));
    let error = asked(Some(10_001)).unwrap_err().error;
    assert!(error.starts_with("limit 10001 is more than the 10000 flows"), "{error}");
}
