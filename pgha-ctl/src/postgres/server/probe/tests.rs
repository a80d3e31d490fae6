use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use super::{Health, NAME, OsUser, WriteProbe, directories};

const OFTEN: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(30);

/// Whoever runs the tests: everybody has a name.
fn own() -> OsUser {
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    OsUser::named(&own.name).unwrap()
}

fn becomes(probe: &WriteProbe, wanted: impl Fn(&Health) -> bool) -> Health {
    let begun = Instant::now();
    loop {
        let health = probe.health();
        if wanted(&health) {
            return health;
        }
        assert!(begun.elapsed() < LONG, "{health:?}");
        sleep(OFTEN);
    }
}

#[test]
fn what_fails_is_told_until_it_works() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("pg_wal");
    let probe = WriteProbe::start(own(), vec![below.clone()], OFTEN, LONG).unwrap();
    let health = becomes(&probe, |health| matches!(health, Health::Fails(_)));
    let Health::Fails(error) = health else { unreachable!() };
    assert!(error.contains("pg_wal/pgha.probe: No such file"), "{error}");
    fs::create_dir(&below).unwrap();
    becomes(&probe, |health| matches!(health, Health::Writes(took) if !took.is_zero()));
}

#[test]
fn what_hangs_hangs_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    // Opening one for writing waits until somebody reads.
    nix::unistd::mkfifo(&directory.path().join(NAME), Mode::S_IRWXU).unwrap();
    let within = Duration::from_millis(20);
    let probe = WriteProbe::start(own(), vec![directory.path().to_owned()], OFTEN, within).unwrap();
    becomes(&probe, |health| matches!(health, Health::Hangs(since) if *since > within));
    // The disk is back, and so is the thread.
    let reader = fs::File::open(directory.path().join(NAME)).unwrap();
    becomes(&probe, |health| !matches!(health, Health::Hangs(_)));
    drop(reader);
}

#[test]
fn a_log_on_a_file_system_of_its_own_is_written_to_beside_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("pg_wal");
    fs::create_dir(&log).unwrap();
    assert_eq!(directories(&own(), directory.path()).unwrap(), std::slice::from_ref(&log));
    fs::remove_dir(&log).unwrap();
    std::os::unix::fs::symlink(Path::new("/proc"), &log).unwrap();
    assert_eq!(directories(&own(), directory.path()).unwrap(), [log, directory.path().to_owned()]);
}
