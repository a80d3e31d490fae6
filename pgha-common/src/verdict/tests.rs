use std::collections::BTreeSet;

use super::{Action, Reason};

#[test]
fn discriminants_index_the_counters() {
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index);
    }
}

#[test]
fn every_reason_has_its_own_name_and_a_meaning() {
    let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::COUNT);
    assert!(Reason::ALL.iter().all(|reason| reason.meaning().ends_with('.')));
}

/// The page people read is what the code says; `PGHA_UPDATE_DOCS=1` writes it anew.
#[test]
fn the_reference_is_up_to_date() {
    let mut page = String::from(
        "# Verdicts\n\nEvery frame that reaches a director gets exactly one of these reasons, and each \
         reason has a counter (`pgha status --json`); together they are the frames received. This \
         page is generated from the program's own list.\n\n| reason | what happens | when |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let action = match reason.action() {
            Action::Forward => "forwarded",
            Action::Answer => "answered",
            Action::Pass => "passed",
            Action::Drop => "dropped",
        };
        page += &format!("| `{}` | {action} | {} |\n", reason.name(), reason.meaning());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verdicts.md");
    if std::env::var_os("PGHA_UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/verdicts.md is not what the code says: PGHA_UPDATE_DOCS=1");
}
