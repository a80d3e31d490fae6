mod crash;

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::writer::lock_path;
use super::*;

const KEY: &str = "orders";

fn key() -> Key {
    KEY.parse().unwrap()
}

/// A disk that lists its steps. They fail from one on, the first of them in the middle; or the directory cannot
/// be synced, as often as is said.
#[derive(Clone, Debug)]
struct Failing {
    steps: Arc<Mutex<Vec<&'static str>>>,
    steps_left: Arc<AtomicUsize>,
    unsettling: Arc<AtomicUsize>,
}

impl Failing {
    fn never() -> Self {
        let (steps, unsettling) = Default::default();
        Self { steps, steps_left: Arc::new(AtomicUsize::new(usize::MAX)), unsettling }
    }

    fn after(&self, steps: usize) {
        self.steps_left.store(steps, Ordering::SeqCst);
    }

    fn taken(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.steps.lock().unwrap())
    }

    fn step(&self, step: &'static str) -> io::Result<()> {
        self.steps.lock().unwrap().push(step);
        match self.steps_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the disk is gone")),
        }
    }
}

fn one_less(number: usize) -> Option<usize> {
    number.checked_sub(1)
}

impl Disk for Failing {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step("create")?;
        Real.create(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        match self.step("write") {
            Ok(()) => Real.write(file, bytes),
            Err(error) => {
                Real.write(file, &bytes[..bytes.len() / 2])?;
                Err(error)
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step("sync")?;
        Real.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename")?;
        Real.rename(from, to)
    }

    fn settle(&self, folder: &Path) -> io::Result<()> {
        self.step("settle")?;
        match self.unsettling.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => Err(io::Error::other("the disk is gone")),
            Err(_) => Real.settle(folder),
        }
    }

    fn overwrite(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.step("note")?;
        Real.overwrite(file, bytes)
    }
}

/// The steps of a change.
const STEPS: [&str; 7] = ["create", "write", "sync", "rename", "settle", "note", "sync"];
/// Those until the file is the new one.
const RENAMED: usize = 4;

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
    for steps in 0..STEPS.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.store");
        let disk = Failing::never();
        let store = Local::open_on(&path, Box::new(disk.clone())).unwrap();
        let old = put(&store, "old").await.unwrap();

        disk.after(steps);
        let refused = store.cas(&key(), old, "new".into()).await.unwrap_err();
        // A crash of the process at this very step: what is on disk is read by the next process.
        let left = Content::decode(&std::fs::read(&path).unwrap()).unwrap();
        if steps < RENAMED {
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
        let (expected, next) = if steps < RENAMED { ("old", 2) } else { ("new", 3) };
        assert_eq!(value(&store).await.as_deref(), Some(expected), "{steps}");
        assert_eq!(put(&store, "newest").await.unwrap().revision, next, "{steps}");
        drop(store);
        assert_eq!(value(&open(&path)).await.as_deref(), Some("newest"));
    }
}

#[test]
fn a_disk_that_fails_at_the_first_start_makes_no_half_store() {
    for steps in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/main.store");
        let disk = Failing::never();
        disk.after(steps);
        let Err(refused) = Local::open_on(&path, Box::new(disk.clone())) else {
            // The directories are synced too, each in the one it is in.
            assert!(steps >= 2 + STEPS.len(), "{:?}", disk.taken());
            assert!(disk.taken().ends_with(&STEPS));
            return;
        };
        let refused = refused.to_string();
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

#[tokio::test]
async fn a_directory_that_could_not_be_synced_gets_the_file_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let disk = Failing::never();
    let store = Local::open_on(&path, Box::new(disk.clone())).unwrap();
    assert!(disk.taken().ends_with(&STEPS));
    let mark = put(&store, "old").await.unwrap();
    assert_eq!(disk.taken(), STEPS);
    disk.unsettling.store(2, Ordering::SeqCst);
    let lost = store.cas(&key(), mark, "new".into()).await.unwrap_err();
    assert!(matches!(lost, CasError::Unknown(_)), "{lost:?}");
    assert_eq!(disk.taken(), STEPS[..5]);
    // That it can be synced again proves nothing of the rename before.
    assert!(store.get(&key()).await.is_err());
    assert_eq!(disk.taken(), STEPS[..5]);
    assert_eq!(value(&store).await.as_deref(), Some("new"));
    assert_eq!(disk.taken(), STEPS);
    assert_eq!(value(&store).await.as_deref(), Some("new"));
    assert!(disk.taken().is_empty());
}

#[tokio::test]
async fn what_another_process_could_not_sync_is_written_anew() {
    for failed in [RENAMED, RENAMED + 1, RENAMED + 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.store");
        let disk = Failing::never();
        let store = Local::open_on(&path, Box::new(disk.clone())).unwrap();
        let old = put(&store, "old").await.unwrap();
        disk.after(failed);
        store.cas(&key(), old, "new".into()).await.unwrap_err();
        drop(store);
        let disk = Failing::never();
        let store = loop {
            match Local::open_on(&path, Box::new(disk.clone())) {
                Err(LocalError::InUse { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        // Where even the note was written, only its own sync failed: the file is durable.
        if failed < RENAMED + 2 {
            assert_eq!(disk.taken(), STEPS, "{failed}");
        } else {
            assert_eq!(disk.taken(), ["sync", "settle"], "{failed}");
        }
        let new = store.get(&key()).await.unwrap();
        assert_eq!(new.value.as_deref(), Some(&b"new"[..]));
        assert!(new.mark.incarnation == old.incarnation && new.mark.is_after(old));
    }
}

#[tokio::test]
async fn a_store_that_can_only_be_read_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let disk = Failing::never();
    let store = Local::open_on(&path, Box::new(disk.clone())).unwrap();
    put(&store, "kept").await.unwrap();
    let before = std::fs::read(&path).unwrap();
    for steps in 0..3 {
        disk.after(steps);
        let error = store.tend().await.unwrap_err().to_string();
        assert!(error.contains("the disk is gone"), "{steps}: {error}");
        // What it holds can be read all the same.
        assert_eq!(value(&store).await.as_deref(), Some("kept"));
    }
    disk.after(3);
    assert!(!store.tend().await.unwrap());
    assert!(!path.with_added_extension("new").exists());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_somebody_writes_over_is_his() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let backup = folder.path().join("backup");
    for removed in [false, true] {
        let store = open(&path);
        put(&store, "one").await.unwrap();
        std::fs::copy(&path, &backup).unwrap();
        let mark = put(&store, "two").await.unwrap();
        // `cp backup main.store`, and with an `rm` before.
        if removed {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::copy(&backup, &path).unwrap();
        let refused = store.cas(&key(), mark, "three".into()).await.unwrap_err();
        assert!(refused.to_string().contains("was exchanged for another file"), "{refused}");
        assert!(matches!(store.tend().await, Err(LocalError::Exchanged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&backup).unwrap());
    }
}

#[tokio::test]
async fn who_changes_the_owner_or_the_times_changes_no_record() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = open(&path);
    put(&store, "one").await.unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(!store.tend().await.unwrap());
    put(&store, "two").await.unwrap();
}

#[tokio::test]
async fn a_backup_that_is_put_back_is_another_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = open(&path);
    let one = put(&store, "one").await.unwrap();
    let backup = std::fs::read(&path).unwrap();
    let two = put(&store, "two").await.unwrap();
    drop(store);
    // As it was left, it is the same.
    let store = open(&path);
    assert_eq!(store.get(&key()).await.unwrap().mark, two);
    drop(store);

    std::fs::write(&path, &backup).unwrap();
    let store = open(&path);
    let back = store.get(&key()).await.unwrap();
    assert_eq!((back.value.as_deref(), back.mark.revision), (Some(&b"one"[..]), one.revision));
    assert_ne!(back.mark.incarnation, one.incarnation);
    // So that the one who read "two" sees what takes its place.
    let other = put(&store, "other").await.unwrap();
    assert!(other.revision == two.revision && other.is_after(two) && other != two);
    drop(store);
    assert_eq!(open(&path).get(&key()).await.unwrap().mark, other);

    // It was another store in the meantime; or nobody knows what it was.
    let opened = async || open(&path).get(&key()).await.unwrap();
    let mut last = opened().await;
    for strange in
        [&b""[..], b"nonsense", b"nonsense that is longer than any line of ours would be\nx"]
    {
        std::fs::write(lock_path(&path), strange).unwrap();
        let found = opened().await;
        assert_ne!(found.mark.incarnation, last.mark.incarnation);
        assert_eq!((found.value.as_deref(), opened().await), (Some(&b"other"[..]), found.clone()));
        last = found;
    }
    std::fs::write(&path, &backup).unwrap();
    let back = opened().await;
    assert!(![one.incarnation, last.mark.incarnation].contains(&back.mark.incarnation));
    std::fs::remove_file(lock_path(&path)).unwrap();
    assert_ne!(opened().await.mark.incarnation, back.mark.incarnation);
}

#[tokio::test]
async fn a_store_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let store = open(&path);
    let (first, fits) = (store.get(&key()).await.unwrap().mark, MAX_SIZE / MAX_VALUE);
    for number in 0..=fits {
        let key: Key = format!("key-{number}").parse().unwrap();
        let put = store.cas(&key, first, vec![0; MAX_VALUE]).await;
        // The keys take the last value's place.
        assert_eq!(put.is_ok(), number < fits - 1, "{number}");
        if let Err(refused) = put {
            assert!(matches!(
                refused,
                CasError::Failed(StoreError::Local(LocalError::Full { .. }))
            ));
            assert!(refused.to_string().ends_with("; put shorter values, or fewer keys"));
        }
    }
    put(&store, "short").await.unwrap();

    let mut many = Content::empty(first.incarnation);
    for number in 0..MAX_RECORDS {
        let next = many.with(&format!("key-{number}").parse().unwrap(), Vec::new());
        assert_eq!(next.outgrows(&many), None);
        many = next;
    }
    assert!(many.with(&key(), Vec::new()).outgrows(&many).is_some());
    assert_eq!(many.with(&"key-0".parse().unwrap(), vec![1]).outgrows(&many), None);
}
