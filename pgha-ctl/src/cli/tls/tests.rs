use clap::Parser as _;

use super::*;
use crate::rpc::credentials::Credentials;

fn pgha(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let tls = directory.to_str().unwrap();
    let line = ["pgha", "--tls", tls, "tls"].into_iter().chain(arguments.iter().copied());
    let crate::cli::Pgha { options, verb } = crate::cli::Pgha::try_parse_from(line)?;
    let crate::cli::Verb::Tls(verb) = verb else { anyhow::bail!("{verb:?}") };
    run(&directory.join("no.toml"), &options.tls, verb)
}

#[test]
fn certificates_are_made_where_the_verb_says_and_renewed_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls");
    let error = pgha(&tls, &["init"]).unwrap_err().to_string();
    assert_eq!(error, "the cluster's name is not known; give it with --cluster");
    let error = pgha(&tls, &["issue", "lb1", "--address", "10.0.0.1"]).unwrap_err().to_string();
    assert!(error.contains("make certificates with: pgha tls init"), "{error}");

    pgha(&tls, &["init", "--cluster", "main"]).unwrap();
    let error = pgha(&tls, &["init", "--cluster", "main"]).unwrap_err().to_string();
    assert!(error.contains("ca.crt is there already and stays"), "{error}");
    let error = pgha(&tls, &["issue", "lb1"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "node lb1 can be found by nobody: give its addresses with --address, or its names with --dns"
    );
    assert!(pgha(&tls, &["issue", "lb1", "--address", "10.0.0.1", "--days", "0"]).is_err());
    let error = pgha(&tls, &["renew"]).unwrap_err().to_string();
    assert!(error.contains("no node.crt is in "), "{error}");

    pgha(&tls, &["issue", "lb1", "--address", "10.0.0.1", "--days", "3"]).unwrap();
    pgha(&tls, &["issue", "ann", "--operator", "--days", "3"]).unwrap();
    let until = |name: &str| Credentials::load(&tls.join(name)).unwrap().until();
    let before = [until("lb1"), until("ann")];
    pgha(&tls, &["renew"]).unwrap();
    for (before, name) in before.into_iter().zip(["lb1", "ann"]) {
        assert!(until(name) > before + 300 * DAY, "{name}");
    }
    pgha(&tls, &["renew", "lb1", "--days", "2"]).unwrap();
    assert!(until("lb1") < before[0] && until("ann") > before[1]);
}

#[test]
fn what_was_made_is_told() {
    let made = Made {
        name: "lb1".to_owned(),
        role: Some(Role::Node),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        dns: vec!["lb1.example".to_owned()],
        until: 1_800_000_000,
        days: 55,
        files: vec!["/tls/lb1/node.crt".into()],
    };
    let document = Document { schema: SCHEMA, certificates: vec![made] };
    assert_eq!(
        text(&document, "Next."),
        "node lb1 (10.0.0.1, lb1.example): until 2027-01-15T08:00:00Z, 55 days\n  \
         /tls/lb1/node.crt\nNext."
    );
}
