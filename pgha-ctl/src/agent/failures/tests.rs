use super::*;

#[test]
fn what_failed_is_counted_by_kind_outlives_the_agent_and_is_cleared() {
    let state = std::env::temp_dir().join(format!("pgha-failures-{}", std::process::id()));
    std::fs::create_dir_all(&state).unwrap();
    let failures = Failures::kept_in(&state);
    assert_eq!(failures.list(), Failed::default());
    failures.note(FailureKind::Crash, "it ended".to_owned(), 7);
    failures.note(FailureKind::Order, "no room".to_owned(), 8);
    failures.note(FailureKind::Crash, "it ended again".to_owned(), 9);
    let crash = Failure { count: 2, last: 9, reason: "it ended again".to_owned() };
    assert_eq!(Failures::kept_in(&state).list()[&FailureKind::Crash], crash);
    failures.clear();
    assert_eq!(Failures::kept_in(&state).list(), Failed::default());
    std::fs::write(state.join(FILE), "none").unwrap();
    assert_eq!(Failures::kept_in(&state).list(), Failed::default());
    std::fs::remove_dir_all(&state).unwrap();
}
