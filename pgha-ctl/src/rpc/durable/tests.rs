use std::cell::{Cell, RefCell};
use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn directories_are_made_with_their_mode_and_synced_where_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/c");
    let synced = RefCell::new(Vec::new());
    let noting = |directory: &Path| {
        synced.borrow_mut().push(directory.to_owned());
        sync(directory)
    };
    directory(&path, 0o700, &noting).unwrap();
    directory(&path, 0o700, &noting).unwrap();
    let above = ["", "a", "a/b"].map(|name| folder.path().join(name));
    assert_eq!(*synced.borrow(), above);
    for made in [&path, &above[2]] {
        assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
    }
    std::fs::write(path.join("file"), "").unwrap();
    assert!(directory(&path.join("file"), 0o700, &noting).is_err());
    assert!(directory(&path.join("file/d"), 0o700, &noting).is_err());
}

#[test]
fn a_directory_whose_name_could_not_be_synced_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let synced = Cell::new(0);
    let failing_once = |_: &Path| {
        synced.set(synced.get() + 1);
        if synced.get() == 1 { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    };
    directory(&path, 0o700, &failing_once).unwrap_err();
    assert!(!path.exists());
    directory(&path, 0o700, &failing_once).unwrap();
    assert_eq!(synced.get(), 2);
}
