use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::TemporaryFile;

#[test]
fn it_goes_with_the_folders_made_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/file");
    let file = TemporaryFile::create(&path, "content", 0o755).unwrap().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    drop(file);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_used_by_others_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/file");
    let file = TemporaryFile::create(&path, "content", 0o644).unwrap();
    fs::write(folder.path().join("a/other"), "").unwrap();
    drop(file);
    assert!(folder.path().join("a/other").exists());
    assert!(!folder.path().join("a/b").exists());
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "theirs").unwrap();
    assert!(TemporaryFile::create(&path, "ours", 0o644).unwrap().is_none());
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

#[test]
fn a_file_left_by_a_killed_run_is_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "ours").unwrap();
    drop(TemporaryFile::create(&path, "ours", 0o644).unwrap());
    assert!(!path.exists());
}
