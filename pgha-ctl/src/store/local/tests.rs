use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const KEY: &str = "orders";

fn key() -> Key {
    KEY.parse().unwrap()
}

/// A disk whose steps fail from one on, the first of them in the middle.
#[derive(Clone, Debug, Default)]
struct Failing {
    steps_left: Arc<AtomicUsize>,
}

impl Failing {
    fn after(&self, steps: usize) {
        self.steps_left.store(steps, Ordering::SeqCst);
    }

    fn step(&self) -> io::Result<()> {
        let left = |left: usize| left.checked_sub(1);
        let taken = self.steps_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        taken.map(drop).map_err(|_| io::Error::other("the disk is gone"))
    }
}

impl Disk for Failing {
    fn folder(&self, path: &Path) -> io::Result<()> {
        Real.folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        Real.create(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        match self.step() {
            Ok(()) => Real.write(file, bytes),
            Err(error) => {
                Real.write(file, &bytes[..bytes.len() / 2])?;
                Err(error)
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        Real.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Real.rename(from, to)
    }

    fn settle(&self, folder: &Path) -> io::Result<()> {
        self.step()?;
        Real.settle(folder)
    }
}

/// Create, write, sync, rename, settle.
const STEPS: usize = 5;

async fn put(store: &Local, value: &str) -> Result<Mark, CasError> {
    let mark = store.get(&key()).await.unwrap().mark;
    store.cas(&key(), mark, value.into()).await
}

async fn value(store: &Local) -> Option<String> {
    let value = store.get(&key()).await.unwrap().value;
    value.map(|value| String::from_utf8(value).unwrap())
}

/// Opens a store that was just closed: a test beside this one may be forking, which holds the lock until
/// its child is another program.
fn open(path: &Path) -> Local {
    let begin = std::time::Instant::now();
    loop {
        match Local::open(path) {
            Err(LocalError::InUse { .. }) if begin.elapsed().as_secs() < 30 => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_leaves_the_old_value_or_the_new() {
    for steps in 0..STEPS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.store");
        let disk = Failing::default();
        disk.after(usize::MAX);
        let store = Local::open_on(&path, Box::new(disk.clone())).unwrap();
        let old = put(&store, "old").await.unwrap();

        disk.after(steps);
        let refused = store.cas(&key(), old, "new".into()).await.unwrap_err();
        // A crash at this very step: what is on disk is read by the next process.
        let left = Content::decode(&std::fs::read(&path).unwrap()).unwrap();
        if steps < STEPS - 1 {
            assert!(matches!(refused, CasError::Failed(_)), "{steps}: {refused:?}");
            assert_eq!(left.mark(&key()), old);
            assert_eq!(value(&store).await.as_deref(), Some("old"), "{steps}");
        } else {
            // Renamed, but not settled: nobody is told either value while a crash could change it.
            assert!(matches!(refused, CasError::Unknown(_)), "{refused:?}");
            assert_eq!(left.reading(&key()).value.as_deref(), Some(&b"new"[..]));
            assert!(store.get(&key()).await.is_err());
            assert!(matches!(store.cas(&key(), old, "x".into()).await, Err(CasError::Failed(_))));
        }

        disk.after(usize::MAX);
        let (expected, next) = if steps < STEPS - 1 { ("old", 2) } else { ("new", 3) };
        assert_eq!(value(&store).await.as_deref(), Some(expected), "{steps}");
        assert_eq!(put(&store, "newest").await.unwrap().revision, next, "{steps}");
        drop(store);
        assert_eq!(value(&open(&path)).await.as_deref(), Some("newest"));
    }
}

#[tokio::test]
async fn a_disk_that_fails_at_the_first_start_makes_no_half_store() {
    for steps in 0..STEPS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.store");
        let disk = Failing::default();
        disk.after(steps);
        let refused = Local::open_on(&path, Box::new(disk)).unwrap_err().to_string();
        assert!(refused.contains("the disk is gone; see that its directory is there"), "{refused}");
        assert_eq!(open(&path).position().1, 0);
    }
}

#[tokio::test]
async fn what_a_crash_leaves_beside_the_file_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = Local::open(&path).unwrap();
    let written = put(&store, "old").await.unwrap();
    let next = store.shared.content().with(&key(), b"new".to_vec()).encode();
    drop(store);
    for end in 0..=next.len() {
        std::fs::write(path.with_added_extension("new"), &next[..end]).unwrap();
        let store = open(&path);
        assert_eq!(store.get(&key()).await.unwrap().mark, written, "{end}");
    }
    let store = open(&path);
    put(&store, "newest").await.unwrap();
    drop(store);
    assert_eq!(value(&open(&path)).await.as_deref(), Some("newest"));
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = Local::open(&path).unwrap();
    put(&store, "precious").await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    drop(store);
    let refusal = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let refused = loop {
            match Local::open(&path) {
                Err(LocalError::InUse { .. }) => std::thread::yield_now(),
                other => break other.unwrap_err().to_string(),
            }
        };
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        refused
    };
    for end in 0..whole.len() {
        let said = refusal(&whole[..end]);
        assert!(said.contains("main.store is damaged: it"), "{end}: {said}");
        assert!(said.ends_with("or move it away to begin with an empty one"), "{said}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(refusal(&longer).contains("its checksum is wrong"));
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(value(&open(&path)).await.as_deref(), Some("precious"));
}

#[tokio::test]
async fn a_store_is_one_process_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/main.store");
    let _store = Local::open(&path).unwrap();
    let said = Local::open(&path).unwrap_err().to_string();
    assert!(said.starts_with("another process uses the store "), "{said}");
    use std::os::unix::fs::PermissionsExt as _;
    for private in [path.clone(), lock_path(&path)] {
        assert_eq!(std::fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_file_that_somebody_removes_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = Local::open(&path).unwrap();
    let mark = put(&store, "kept").await.unwrap();
    assert!(!store.tend().await.unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(store.tend().await.unwrap());
    assert!(!store.tend().await.unwrap());
    // It is the same store, with the same revisions.
    assert_eq!(store.get(&key()).await.unwrap().mark, mark);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(put(&store, "again").await.unwrap().revision, mark.revision + 1);
    drop(store);
    assert_eq!(value(&open(&path)).await.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_file_that_somebody_exchanges_is_his() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = Local::open(&path).unwrap();
    put(&store, "one").await.unwrap();
    let backup = std::fs::read(&path).unwrap();
    let mark = put(&store, "two").await.unwrap();
    let beside = folder.path().join("backup");
    std::fs::write(&beside, &backup).unwrap();
    std::fs::rename(&beside, &path).unwrap();
    let refused = store.cas(&key(), mark, "three".into()).await.unwrap_err();
    assert!(matches!(refused, CasError::Failed(_)), "{refused:?}");
    assert!(refused.to_string().contains("was exchanged for another file"), "{refused}");
    assert!(matches!(store.tend().await, Err(LocalError::Exchanged { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), backup);

    std::fs::remove_file(lock_path(&path)).unwrap();
    assert!(matches!(store.tend().await, Err(LocalError::Unlocked { .. })));
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_a_change_cuts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = Local::open(&path).unwrap();
    let mark = store.get(&key()).await.unwrap().mark;
    let key = key();
    let mut change = Box::pin(store.cas(&key, mark, "whole".into()));
    // Polled once, so that it has begun.
    assert!(futures_util::poll!(&mut change).is_pending());
    drop(change);
    let reading = store.watch(&key, mark).await.unwrap();
    assert_eq!(reading.value.as_deref(), Some(&b"whole"[..]));
}
