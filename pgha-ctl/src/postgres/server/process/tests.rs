use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_lock_of_the_dead_is_told_from_one_of_the_living() {
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("postmaster.pid");
    let is = |content: &str| {
        fs::write(&lock, content).unwrap();
        is_lock_of_the_dead(&lock)
    };
    assert!(!is(&format!("{}\n/data\n", std::process::id())));
    assert!(!is("") && !is("-1\n") && !is("nobody\n"));
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    let deadline = Instant::now() + Duration::from_secs(60);
    // It is dead, and nobody has waited for it.
    while !is(&format!("{pid}\n/data\n")) {
        assert!(Instant::now() < deadline, "{pid} does not end");
        sleep(Duration::from_millis(5));
    }
    child.wait().unwrap();
    assert!(!is(&format!("{pid}\n/data\n")), "nobody has that number");
}
