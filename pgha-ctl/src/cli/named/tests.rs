use std::net::Ipv4Addr;

use serde_json::json;

use super::super::fixture;
use super::*;

#[test]
fn an_address_is_read_in_every_way_that_the_controller_reads() {
    let status = fixture::status();
    let address = |text| Named::parse(&status, text).address().map(|address| address.to_string());
    for (text, expected) in [
        ("db4", Some("10.0.0.4")),
        ("10.0.0.4", Some("10.0.0.4")),
        ("10.0.0.4:5432", Some("10.0.0.4")),
        ("fd00::1", Some("fd00::1")),
        ("[fd00::1]", Some("fd00::1")),
        ("[fd00::1]:5432", Some("fd00::1")),
        ("db9", None),
    ] {
        assert_eq!(address(text).as_deref(), expected, "{text}");
    }
    let view = &status.services[0].view;
    let port = view.port;
    for (text, expected) in [
        (format!("10.0.0.4:{port}"), true),
        (format!("[fd00::1]:{}", port + 1), false),
        ("[fd00::1]".to_owned(), true),
    ] {
        assert_eq!(Named::parse(&status, &text).is_in(view), expected, "{text}");
    }
}

#[test]
fn an_added_reader_is_known_by_its_name() {
    let mut value = fixture::value();
    value["readers"] = json!([
        { "address": "10.0.0.7", "name": "archive", "weight": null, "by": "ann", "at": 1 },
        { "address": "10.0.0.8", "name": null, "weight": null, "by": "ann", "at": 1 },
    ]);
    let status = fixture::read(value);
    let named = Named::parse(&status, "archive");
    assert_eq!(named.address(), Some(Ipv4Addr::new(10, 0, 0, 7).into()));
}
