use std::path::PathBuf;

use super::text;
use crate::check::{Check, Fixed, Level, Report, Role, SCHEMA};

fn check(id: &str, level: Level) -> Check {
    Check {
        id: id.to_owned(),
        of: "eth0".to_owned(),
        level,
        what: "something works".to_owned(),
        found: "what was found".to_owned(),
        wanted: Some("something else".to_owned()),
        mend: Some("do this".to_owned()),
        sql: vec!["SELECT 1;".to_owned(), "SELECT 2;".to_owned()],
        fixable: level == Level::Fail,
    }
}

fn report() -> Report {
    Report {
        schema: SCHEMA,
        file: PathBuf::from("/etc/pgha/pgha.toml"),
        cluster: Some("main".to_owned()),
        role: Role { director: true, real_server: false },
        checks: [Level::Ok, Level::Skipped, Level::Warn, Level::Fail]
            .map(|level| check(&format!("{level:?}").to_lowercase(), level))
            .into(),
        fixed: Vec::new(),
        unfixed: Vec::new(),
    }
}

#[test]
fn people_read_what_is_not_well_and_what_to_do() {
    let shown = text(&report(), false, false);
    let expected = "cluster main, this node as director

WARNING  warn eth0: something works
         what was found
         wanted: something else
         mend: do this
           SELECT 1;
           SELECT 2;

FAILED   fail eth0: something works
         what was found
         wanted: something else
         mend: do this
           SELECT 1;
           SELECT 2;

pgha check --fix would mend 1 of these.

1 ok, 1 skipped, 1 warning, 1 failed
";
    assert_eq!(shown, expected);
    let all = text(&report(), true, false);
    assert!(
        all.contains("\nok       ok eth0:") && all.contains("\nskipped  skipped eth0:"),
        "{all}"
    );
}

#[test]
fn people_read_what_was_done_and_how_to_take_it_back() {
    let mut report = report();
    let (done, take_back) = ("mounted it".to_owned(), "umount it".to_owned());
    report.fixed.push(Fixed { done, take_back });
    report.unfixed.push("it takes root".to_owned());
    let shown = text(&report, false, true);
    assert!(shown.contains("\ndone: mounted it\n  to take it back: umount it\n"), "{shown}");
    assert!(shown.contains("\nnot done: it takes root\n"), "{shown}");
    assert!(!shown.contains("--fix would"), "{shown}");
}

#[test]
fn a_report_is_read_back_from_its_json() {
    let report = report();
    assert!(!report.is_well());
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains("\"level\":\"fail\"") && text.contains("\"schema\":1"), "{text}");
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
