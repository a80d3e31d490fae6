use proptest::prelude::*;

use super::{Password, Wanted, lookup};

const WANTED: Wanted<'_> =
    Wanted { host: "10.0.0.11", port: "5432", dbname: "postgres", user: "pgha" };

fn found(content: &str) -> Option<String> {
    lookup(content.as_bytes(), &WANTED)
        .map(|password| String::from_utf8(password.expose().to_vec()).unwrap())
}

#[test]
fn the_first_match_counts() {
    let content = "10.0.0.12:5432:postgres:pgha:other\n10.0.0.11:*:*:pgha:one\n*:*:*:*:two\n";
    assert_eq!(found(content).as_deref(), Some("one"));
}

#[test]
fn each_field_must_match() {
    for line in [
        "10.0.0.1:5432:postgres:pgha:x",
        "10.0.0.11:5433:postgres:pgha:x",
        "10.0.0.11:5432:replication:pgha:x",
        "10.0.0.11:5432:postgres:pgh:x",
        "10.0.0.11*:5432:postgres:pgha:x",
        "10.0.0.11:5432:postgres:pgha",
        "#10.0.0.11:5432:postgres:pgha:x",
        "",
    ] {
        assert_eq!(found(line), None, "{line:?} matched");
    }
}

#[test]
fn escapes_and_line_ends_are_libpqs() {
    assert_eq!(found("*:*:*:*:a\\:b\\\\c:d").as_deref(), Some("a:b\\c:d"));
    assert_eq!(found("*:*:*:*:x\r\n").as_deref(), Some("x"));
    assert_eq!(found("*:*:*:*:end\\").as_deref(), Some("end\\"));
    assert_eq!(found("*:*:*:p\\gha:x").as_deref(), Some("x"));
}

#[test]
fn the_colons_of_an_ipv6_address_are_escaped() {
    let wanted = Wanted { host: "fd00::11", ..WANTED };
    let found = |line: &str| lookup(line.as_bytes(), &wanted);
    assert_eq!(found("fd00\\:\\:11:5432:*:pgha:x"), Some(Password::new(b"x".to_vec())));
    assert_eq!(found("fd00::11:5432:*:pgha:x"), None);
}

#[test]
fn a_password_does_not_show_itself() {
    assert_eq!(format!("{:?}", Password::new(b"secret".to_vec())), "Password(_)");
}

proptest! {
    #[test]
    fn an_escaped_line_gives_back_its_password(
        user in "[a-z:\\\\]{1,10}",
        password in "[^\r\n\0]{1,20}",
    ) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let line = format!("10.0.0.11:5432:*:{}:{}", escape(&user), escape(&password));
        let wanted = Wanted { user: &user, ..WANTED };
        prop_assert_eq!(
            lookup(line.as_bytes(), &wanted),
            Some(Password::new(password.into_bytes()))
        );
    }

    #[test]
    fn no_content_panics(content: Vec<u8>) {
        let _ = lookup(&content, &WANTED);
    }
}
