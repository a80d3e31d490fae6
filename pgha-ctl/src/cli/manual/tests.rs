use clap::CommandFactory as _;
use clap::ValueEnum as _;

use super::*;
use crate::cli::Pgha;

#[test]
fn there_is_a_page_for_each_verb_and_it_has_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    Man { out: Some(out.clone()) }.write(Pgha::command()).unwrap();
    let page = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    for name in ["pgha.1", "pgha-status.1", "pgha-why-not.1", "pgha-director-take.1"] {
        assert!(page(name).contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(page("pgha.1").contains("Exit codes:"), "{}", page("pgha.1"));
    assert!(page("pgha.1").contains("the controller could not be asked"));

    // What is no directory is told in one sentence.
    let file = out.join("pgha.1");
    let error = Man { out: Some(file.clone()) }.write(Pgha::command()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} cannot be written: ", file.display())), "{error}");
}

#[test]
fn each_shell_is_told_every_verb() {
    for shell in Shell::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Pgha::command(), "pgha", &mut script);
        let script = String::from_utf8(script).unwrap();
        for verb in ["status", "why-not", "drain"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
}
