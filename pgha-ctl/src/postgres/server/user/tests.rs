use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use nix::unistd::geteuid;

use super::OsUser;

/// The user that every Unix has and who owns nothing.
const NOBODY: &str = "nobody";

#[test]
fn of_an_unknown_user_nothing_is_done() {
    let error = OsUser::named("nobody-has-this-name").unwrap_err();
    assert_eq!(error.to_string(), "there is no such user");
}

/// Takes root, as the kernel lets nobody else be somebody else; without, there is nothing to be seen.
#[test]
fn files_are_handled_in_the_name_of_the_user_and_no_longer() {
    let nobody = OsUser::named(NOBODY).unwrap();
    if !geteuid().is_root() {
        let refused = nobody.with_files(|| ()).unwrap_err();
        assert!(refused.to_string().contains("CAP_SETUID"), "{refused}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "root's").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let link = directory.path().join("link");
    symlink(&secret, &link).unwrap();

    let made = directory.path().join("made");
    let read = nobody.with_files(|| {
        fs::write(&made, "nobody's").unwrap();
        fs::read(&link)
    });
    assert_eq!(read.unwrap().unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(made.metadata().unwrap().uid(), nobody.uid.as_raw());
    assert_eq!(fs::read(&link).unwrap(), b"root's", "this thread is root's again");

    // Also after a panic, and nobody else's thread ever was.
    let panicked = std::panic::catch_unwind(|| nobody.with_files(|| panic!("a job that fails")));
    assert!(panicked.is_err());
    assert_eq!(fs::read(&secret).unwrap(), b"root's");
    nobody
        .with_files(|| {
            let read = std::thread::scope(|scope| {
                // A thread that is born meanwhile takes after the one that makes it.
                let born = scope.spawn(|| fs::read(&secret).is_err());
                born.join().unwrap()
            });
            assert!(read);
        })
        .unwrap();
}

#[test]
fn a_program_of_the_users_has_no_capability() {
    if !geteuid().is_root() {
        return;
    }
    let nobody = OsUser::named(NOBODY).unwrap();
    let status = nobody.command("cat").arg("/proc/self/status").output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{line}:\t0000000000000000\n")), "{status}");
    }
    assert!(status.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", nobody.uid)), "{status}");
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
}
