use std::io;
use std::path::PathBuf;

use super::*;
use crate::controller::status::Refusal;

#[test]
fn no_two_exit_codes_are_one_and_each_says_what_it_means() {
    let mut codes = Exit::ALL.map(|exit| exit as u8);
    codes.sort_unstable();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 130]);
    let manual = manual();
    for exit in Exit::ALL {
        let line = format!("\n  {:>3}  {}", exit as u8, exit.meaning());
        assert!(manual.contains(&line), "{line:?} in {manual}");
    }
}

#[test]
fn an_error_ends_with_the_code_of_its_kind() {
    let path = PathBuf::from("/run/pgha/main.sock");
    let source = io::Error::from(io::ErrorKind::ConnectionRefused);
    let none = ClientError::NoController { path: path.clone(), source };
    assert_eq!(Exit::of(&none.into()), Exit::Unreachable);
    assert_eq!(Exit::of(&ClientError::Permission { path }.into()), Exit::Refused);
    let refusal = Refusal { error: "no".to_owned() };
    assert_eq!(Exit::of(&ClientError::Refused(refusal).into()), Exit::Refused);
    assert_eq!(Exit::of(&anyhow::anyhow!("something else")), Exit::Failed);
    let of = |kind: io::ErrorKind| anyhow::Error::from(io::Error::from(kind)).context("lo");
    assert_eq!(Exit::of(&of(io::ErrorKind::PermissionDenied)), Exit::Refused);
    assert_eq!(Exit::of(&of(io::ErrorKind::NotFound)), Exit::Failed);
}

#[test]
fn an_error_is_a_sentence_or_one_line_of_json() {
    let error = anyhow::anyhow!("\"db9\" is no name");
    assert_eq!(told(&error, Exit::Refused, false), "pgha: \"db9\" is no name");
    let line = told(&error, Exit::Refused, true);
    assert_eq!(line.lines().count(), 1);
    let failure: Failure = serde_json::from_str(&line).unwrap();
    let error = "\"db9\" is no name".to_owned();
    assert_eq!(failure, Failure { schema: SCHEMA, error, exit: 5 });
}
