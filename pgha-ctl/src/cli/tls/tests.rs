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
fn one_bad_directory_keeps_no_other_from_being_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path();
    pgha(tls, &["init", "--cluster", "main"]).unwrap();
    for name in ["ann", "zoe"] {
        pgha(tls, &["issue", name, "--operator", "--days", "3"]).unwrap();
    }
    for bad in ["bad1", "bad2"] {
        std::fs::create_dir(tls.join(bad)).unwrap();
        std::fs::write(tls.join(bad).join(CERTIFICATE), "nonsense").unwrap();
    }
    let error = pgha(tls, &["renew"]).unwrap_err().to_string();
    assert!(error.lines().count() == 2, "{error}");
    assert!(error.contains("bad1/node.crt") && error.contains("bad2/node.crt"), "{error}");
    for name in ["ann", "zoe"] {
        let until = Credentials::load(&tls.join(name)).unwrap().until();
        assert!(until > SystemTime::now() + 300 * DAY, "{name}");
    }
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
    let next =
        ("Next, do this:".to_owned(), vec!["pgha tls a".to_owned(), "pgha tls b".to_owned()]);
    assert_eq!(
        text(&document, &next),
        "Certificate of node lb1 (10.0.0.1, lb1.example), good until 2027-01-15T08:00:00Z (55 days):\n  \
         /tls/lb1/node.crt\n\nNext, do this:\n  pgha tls a\n  pgha tls b\n"
    );
}

#[test]
fn days_are_as_they_were_asked_for_and_the_next_command_finds_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, now) = (folder.path().join("tls"), SystemTime::now());
    let cluster = Some("main".parse().unwrap());
    let made = init(&folder.path().join("no.toml"), &tls, cluster, false, now).unwrap();
    let (next, lines) = made.next;
    assert!(next.starts_with("This is the authority of cluster main. "), "{next}");
    let line = lines[1].replace("NAME", "ann");
    let crate::cli::Pgha { options, verb } =
        crate::cli::Pgha::try_parse_from(line.split(' ')).unwrap();
    assert_eq!(options.tls, tls);
    let crate::cli::Verb::Tls(Verb::Issue(request)) = verb else { panic!("{verb:?}") };
    let made = issue(&options.tls, request, now).unwrap().made.remove(0);
    assert_eq!(Made::of(made, now).days, 365);
}
