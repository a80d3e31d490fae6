use super::*;

fn printed(state: &str) -> String {
    format!(
        "pg_control version number:            1300\n\
         Database system identifier:           7399110242345678901\n\
         Database cluster state:               {state}\n\
         pg_control last modified:             Sun Nov 22 09:00:00 2026\n"
    )
}

#[test]
fn who_was_a_primary_is_told_from_who_was_a_standby() {
    for (state, was_primary) in [
        ("shut down", true),
        ("in production", true),
        ("in crash recovery", true),
        ("shut down in recovery", false),
        ("in archive recovery", false),
        ("starting up", false),
    ] {
        let origin = Origin { system: 7_399_110_242_345_678_901, was_primary };
        assert_eq!(read(&printed(state)), Some(origin), "{state}");
    }
    assert_eq!(read("Database cluster state: shut down\n"), None);
}

/// What was found first stays, whatever becomes of the directory.
#[test]
fn the_first_look_counts() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("pg_controldata");
    let says = |state: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let script = format!("#!/bin/sh\ncat <<'END'\n{}END\n", printed(state));
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    let user = OsUser::named(&own.name).unwrap();
    let find = || Origin::find(&user, folder.path(), Path::new("/data"), folder.path());
    assert!(matches!(find(), Err(OriginError::Run { .. })));
    says("shut down");
    assert!(find().unwrap().was_primary);
    says("in archive recovery");
    assert!(find().unwrap().was_primary);
    // PostgreSQL does not start in a directory of somebody else's.
    let nobody = OsUser::named("nobody").unwrap();
    let other = Origin::find(&nobody, folder.path(), Path::new("/etc"), folder.path());
    assert!(matches!(other, Err(OriginError::Owner { owner: 0, .. })), "{other:?}");
    // And it is that directory, or one of the same cluster.
    let other = printed("shut down").replace("7399110242345678901", "7399110242345678902");
    std::fs::write(&program, format!("#!/bin/sh\ncat <<'END'\n{other}END\n")).unwrap();
    assert!(matches!(find(), Err(OriginError::Replaced { .. })));
}
