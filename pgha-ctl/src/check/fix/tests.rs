use super::*;

#[test]
fn nothing_is_mounted_over_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| hides_nothing(path).unwrap_err().to_string();
    let path = folder.path().join("bpffs");
    assert!(refused(&path).contains("is no directory"));
    fs::create_dir(&path).unwrap();
    hides_nothing(&path).unwrap();
    fs::write(path.join("precious"), "").unwrap();
    assert!(refused(&path).contains("is not empty"));
    for mounted in ["/", "/proc"] {
        let error = refused(Path::new(mounted));
        assert!(error.contains("another file system is mounted at"), "{error}");
    }
    // By another name it is no other place.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/proc", &link).unwrap();
    assert!(refused(&link).contains("another file system is mounted at"));
}
