use super::*;

fn host(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn several_primaries_are_told_with_what_tells_them_apart() {
    let claim = PrimaryClaim {
        name: Some("db1".parse().unwrap()),
        host: host(1),
        port: 5432,
        timeline: None,
        system: Some("7".to_owned()),
    };
    // One that has stopped to claim it meanwhile is still named.
    assert_eq!(
        several_primaries(&[host(1), host(4)], &[claim]).text(),
        "several hosts are out of recovery: db1 (10.0.0.1:5432) on an unknown timeline of system 7; \
         10.0.0.4; the readers stay as they are until one of them is stopped or rewound"
    );
}

#[test]
fn a_lost_primary_is_told_with_what_was_said_instead() {
    let errors = ["10.0.0.1: refused".to_owned(), "10.0.0.4: no answer".to_owned()];
    assert_eq!(
        primary_lost(&errors).text(),
        "the primary does not answer; the readers stay as they are (10.0.0.1: refused; 10.0.0.4: no \
         answer)"
    );
    assert!(primary_lost(&[]).text().ends_with("as they are"));
}
