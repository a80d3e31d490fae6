//! The command line as a whole.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Command;

use super::*;

/// Every verb that does something, by the words of its command line.
fn verbs(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() {
            verbs(verb, &path, found);
        } else {
            found.push((path, verb.clone()));
        }
    }
}

fn all_verbs() -> Vec<(String, Command)> {
    let mut pgha = Pgha::command();
    pgha.build();
    let mut found = Vec::new();
    verbs(&pgha, "pgha", &mut found);
    found
}

#[test]
fn the_command_line_is_sound() {
    Pgha::command().debug_assert();
}

#[test]
fn every_verb_and_every_option_says_what_it_is() {
    let verbs = all_verbs();
    assert!(verbs.len() > 15, "{verbs:?}");
    for (name, verb) in &verbs {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.len() > 10, "{name} says nothing of itself");
        for argument in verb.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{name}: {} says nothing of itself", argument.get_id());
        }
    }
}

/// Verbs that print nothing a program would read.
const WITHOUT_JSON: [&str; 5] = [
    // They run until they are ended.
    "pgha controller",
    "pgha guardian",
    "pgha web",
    // They print files of other programs.
    "pgha completions",
    "pgha man",
];

#[test]
fn every_verb_that_prints_what_it_found_prints_json_too() {
    for (name, verb) in all_verbs() {
        let has = verb.get_arguments().any(|argument| argument.get_id() == "json");
        assert_eq!(has, !WITHOUT_JSON.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn whether_json_is_wanted_is_read_off_the_verb() {
    let wants = |line: &str| {
        let words = line.split_whitespace();
        wants_json(&Pgha::command().try_get_matches_from(words).unwrap())
    };
    assert!(wants("pgha status --json"));
    assert!(wants("pgha director take --json"));
    assert!(!wants("pgha status"));
    assert!(wants("pgha realserver undo --json"));
    assert!(!wants("pgha detach"));
    assert!(!wants("pgha completions bash"));
}

#[test]
fn a_verb_of_this_node_takes_no_other_controller() {
    let parse = |line: &str| {
        let words = ["pgha", "--to", "10.0.0.2:7432"].into_iter().chain(line.split(' '));
        let matches = Pgha::command().try_get_matches_from(words).unwrap();
        Pgha::from_arg_matches(&matches).unwrap().sound().map(drop)
    };
    for line in [
        "controller",
        "check",
        "check-config",
        "detach",
        "guardian --socket /run/pgha/guardian",
        "realserver undo",
        "tls renew",
        "completions bash",
        "man",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(Exit::Usage as u8), "{line}");
        let said = error.to_string();
        assert!(said.contains("so it takes no --to"), "{line}: {said}");
    }
    for line in ["status", "drain db2", "reader list", "director take", "flows", "reload"] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_is_no_weight_is_told_in_one_phrase() {
    for (weight, is) in
        [("7", true), ("default", true), ("x", false), ("1001", false), ("-1", false)]
    {
        let parsed = Pgha::command().try_get_matches_from(["pgha", "weight", "db2", weight]);
        assert_eq!(parsed.is_ok(), is, "{weight}");
        let Err(error) = parsed else { continue };
        let said = error.to_string();
        let wanted = format!(
            "invalid value '{weight}' for '<WEIGHT>': give a whole number from 0 to 1000, or `default`"
        );
        assert!(said.contains(&wanted), "{said}");
    }
}

/// What stands between these two lines of docs/operations.md is made here.
const BEGIN: &str = "<!-- made by the tests of pgha-ctl/src/cli: PGHA_UPDATE_DOCS=1 -->\n";
const END: &str = "<!-- end -->\n";

fn reference() -> String {
    let mut text = String::from("\n| verb | what |\n|---|---|\n");
    for (name, mut verb) in all_verbs() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        let usage = verb.render_usage().to_string();
        let arguments = usage.trim_start_matches("Usage: ").trim_start_matches(&name).trim();
        let arguments = arguments.trim_start_matches("[OPTIONS]").trim();
        let line = format!("{name} {arguments}").trim_end().replace('|', "\\|");
        writeln!(text, "| `{line}` | {about} |").unwrap();
    }
    text += "\n| exit code | what |\n|---|---|\n";
    for exit in Exit::ALL {
        writeln!(text, "| {} | {} |", exit as u8, exit.meaning()).unwrap();
    }
    text + "\n"
}

/// The page people read is what the code says; `PGHA_UPDATE_DOCS=1` writes it anew.
#[test]
fn the_reference_of_verbs_and_exit_codes_is_up_to_date() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md"));
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the line at which the reference begins");
    let (found, after) = rest.split_once(END).expect("the line at which it ends");
    let wanted = reference();
    if std::env::var_os("PGHA_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(found == wanted, "docs/operations.md is not what the code says: PGHA_UPDATE_DOCS=1");
}
