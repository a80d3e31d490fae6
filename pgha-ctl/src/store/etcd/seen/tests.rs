use super::*;
use crate::store::record::Incarnation;

fn mark(incarnation: u8, revision: u64) -> Mark {
    Mark { incarnation: Incarnation::from_bytes([incarnation; 16]), revision }
}

#[test]
fn what_was_seen_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub").join("main.seen");
    let seen = Seen::new(&path);
    assert_eq!(seen.highest().unwrap(), None);
    seen.write().unwrap();
    assert!(!path.exists(), "nothing was seen");
    seen.note(mark(1, 7));
    seen.note(mark(1, 5));
    assert_eq!(seen.highest().unwrap(), Some(mark(1, 7)));
    seen.write().unwrap();
    assert_eq!(Seen::new(&path).highest().unwrap(), Some(mark(1, 7)));

    let next = Seen::new(&path);
    next.highest().unwrap();
    // Made anew: it counts from the beginning.
    next.note(mark(2, 1));
    next.write().unwrap();
    assert_eq!(Seen::new(&path).highest().unwrap(), Some(mark(2, 1)));
}

#[test]
fn what_cannot_be_read_is_not_taken_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.seen");
    std::fs::write(&path, "something else").unwrap();
    let said = Seen::new(&path).highest().unwrap_err().to_string();
    assert!(said.contains("holds no such thing; remove it"), "{said}");
    let blocked = Seen::new(folder.path());
    assert!(matches!(blocked.highest(), Err(EtcdError::Seen { .. })));
    // A file stands where its folder would be.
    let under = Seen::new(&path.join("main.seen"));
    assert!(under.highest().is_err());
}
