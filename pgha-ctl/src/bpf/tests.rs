use super::*;

fn directory(below: &Path) -> PinDirectory {
    PinDirectory { path: below.join("pgha/main") }
}

#[test]
fn one_at_a_time_has_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let pins = directory(folder.path());
    let lock = pins.lock().unwrap();
    assert!(matches!(pins.lock(), Err(PinError::Locked(path)) if path == pins.path()));
    drop(lock);
    pins.lock().unwrap();
}

#[test]
fn a_directory_that_was_removed_meanwhile_is_not_locked() {
    let folder = tempfile::tempdir().unwrap();
    let pins = directory(folder.path());
    let first = pins.lock().unwrap();
    let opened = || File::open(pins.path()).unwrap();
    let (before, late) = (opened(), opened());
    pins.remove().unwrap();
    drop(first);
    assert!(pins.lock_opened(before).unwrap().is_none());

    let _second = pins.lock().unwrap();
    assert!(pins.lock_opened(late).unwrap().is_none());
    assert!(matches!(pins.lock_opened(opened()), Err(PinError::Locked(_))));
}
