use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::{clear, keep, put_back};

fn patterns() -> Vec<String> {
    ["pg_hba.conf", "conf.d", "*.key"].map(str::to_owned).to_vec()
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn own_files_outlive_what_replaces_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (data, aside) = (directory.path().join("data"), directory.path().join("aside"));
    fs::create_dir_all(data.join("conf.d/deep")).unwrap();
    write(&data.join("pg_hba.conf"), "ours", 0o640);
    write(&data.join("server.key"), "our key", 0o600);
    write(&data.join("conf.d/deep/a.conf"), "a", 0o644);
    symlink("/etc/x", data.join("conf.d/link")).unwrap();
    write(&data.join("PG_VERSION"), "15", 0o600);
    let kept = keep(&data, &patterns(), &aside).unwrap();
    assert_eq!(kept.len(), 3);
    // Again, over what was kept before.
    keep(&data, &patterns(), &aside).unwrap();

    clear(&data, &patterns()).unwrap();
    let left: Vec<_> = fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["PG_VERSION"]);
    fs::create_dir_all(data.join("conf.d")).unwrap();
    write(&data.join("pg_hba.conf"), "theirs", 0o600);
    write(&data.join("other.key"), "their key", 0o600);
    write(&data.join("conf.d/theirs.conf"), "x", 0o600);
    write(&data.join("PG_VERSION"), "16", 0o600);
    for _ in 0..2 {
        // It may be interrupted, and is done again then.
        put_back(&aside, &data, &patterns()).unwrap();
    }
    let read = |name: &str| fs::read_to_string(data.join(name)).ok();
    assert_eq!(read("pg_hba.conf").as_deref(), Some("ours"));
    assert_eq!(read("server.key").as_deref(), Some("our key"));
    assert_eq!(read("conf.d/deep/a.conf").as_deref(), Some("a"));
    assert_eq!(fs::read_link(data.join("conf.d/link")).unwrap(), Path::new("/etc/x"));
    assert_eq!(read("other.key"), None);
    assert_eq!(read("conf.d/theirs.conf"), None);
    assert_eq!(read("PG_VERSION").as_deref(), Some("16"));
    let mode = |name: &str| fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("pg_hba.conf"), mode("server.key")), (0o640, 0o600));
}
