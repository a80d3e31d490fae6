//! What a crash of the machine leaves, after each step of a change: a disk that knows what is durable, and every
//! store that could be found afterwards.
//!
//! Durable is what POSIX says: the bytes of a file since they were synced, the names in a directory since that
//! was. Until then a crash leaves the former ones or the new ones, and perhaps half of the bytes. A note is there
//! whole or not at all, as it is shorter than a sector.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;

use tempfile::TempDir;

use super::*;

/// A step without which something is not durable: the sync
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// Of the bytes of the new file.
    File,
    /// Of its name.
    Folder,
    /// Of the names of the directories above.
    Above,
    /// Of the note.
    Note,
}

/// Which of what is not synced a crash leaves: the new names or the former ones, and which bytes.
#[derive(Clone, Copy, Debug)]
struct Luck {
    names: bool,
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Bytes {
    Former,
    Half,
    New,
}

impl Luck {
    fn every() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|names| {
            [Bytes::Former, Bytes::Half, Bytes::New].map(|bytes| Self { names, bytes })
        })
    }
}

/// Files and directories by their paths below the top; a directory has no bytes.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What may be found after a crash, and how many changes were answered before it.
#[derive(Debug)]
struct Image {
    after: &'static str,
    answered: usize,
    tree: Tree,
}

/// A disk that looks after each step what a crash would leave. It may take one kind of sync never, although it
/// says that it does.
#[derive(Clone, Debug)]
struct Model {
    top: PathBuf,
    forgets: Option<Sync>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    answered: usize,
    images: Vec<Image>,
    /// By inode, the bytes that are durable.
    bytes: BTreeMap<u64, Vec<u8>>,
    /// By directory, the names that are durable, each with its inode.
    names: BTreeMap<PathBuf, BTreeMap<PathBuf, u64>>,
}

impl Model {
    fn new(top: &Path, forgets: Option<Sync>) -> Self {
        Self { top: top.to_owned(), forgets, state: Arc::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn store(&self) -> PathBuf {
        store_below(&self.top)
    }

    fn takes(&self, step: Sync) -> bool {
        self.forgets != Some(step)
    }

    /// One more change was answered.
    fn answered(&self) {
        self.state().answered += 1;
        self.look("the answer");
    }

    /// Adds what a crash would leave now.
    fn look(&self, after: &'static str) {
        let mut state = self.state();
        let left = |luck| {
            let mut tree = Tree::new();
            self.leave(&state, luck, &self.top, &mut tree);
            tree
        };
        let trees: BTreeSet<Tree> = Luck::every().map(left).collect();
        let answered = state.answered;
        state.images.extend(trees.into_iter().map(|tree| Image { after, answered, tree }));
    }

    /// Adds what a crash would leave of a directory.
    fn leave(&self, state: &State, luck: Luck, folder: &Path, tree: &mut Tree) {
        let now = names_in(folder);
        let durable = state.names.get(folder).cloned().unwrap_or_default();
        for (path, inode) in if luck.names { &now } else { &durable } {
            let below = path.strip_prefix(&self.top).unwrap().to_owned();
            if path.is_dir() {
                tree.insert(below, None);
                self.leave(state, luck, path, tree);
                continue;
            }
            let former = state.bytes.get(inode).cloned().unwrap_or_default();
            // By whatever name: a crash may take a rename back.
            let named = now.iter().find(|(_, of)| *of == inode);
            let new = named.map_or_else(|| former.clone(), |(path, _)| bytes_of(path));
            let tears = new != former && *path != lock_path(&self.store());
            let left = match luck.bytes {
                Bytes::Former => former,
                Bytes::Half if tears => new[..new.len() / 2].to_vec(),
                Bytes::Half | Bytes::New => new,
            };
            tree.insert(below, Some(left));
        }
    }
}

fn store_below(top: &Path) -> PathBuf {
    top.join("a/b/main.store")
}

fn names_in(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.path(), entry.metadata().unwrap().ino())).collect()
}

fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

impl Disk for Model {
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = Real.create(path)?;
        // It may have the number of one that is gone.
        self.state().bytes.remove(&file.metadata()?.ino());
        self.look("create");
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        Real.write(file, bytes)?;
        self.look("write");
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        let names = names_in(self.store().parent().unwrap());
        let (path, _) = names.iter().find(|(_, of)| **of == inode).unwrap();
        let note = *path == lock_path(&self.store());
        if self.takes(if note { Sync::Note } else { Sync::File }) {
            self.state().bytes.insert(inode, bytes_of(path));
        }
        self.look("sync");
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Real.rename(from, to)?;
        self.look("rename");
        Ok(())
    }

    fn settle(&self, folder: &Path) -> io::Result<()> {
        let own = self.store().parent() == Some(folder);
        let takes = self.takes(if own { Sync::Folder } else { Sync::Above });
        if folder.starts_with(&self.top) && takes {
            self.state().names.insert(folder.to_owned(), names_in(folder));
        }
        self.look("settle");
        Ok(())
    }

    fn overwrite(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        Real.overwrite(file, bytes)?;
        self.look("note");
        Ok(())
    }
}

/// Some changes on such a disk, what they were answered with, and the file as it was after each.
struct History {
    images: Vec<Image>,
    marks: Vec<Mark>,
    backups: Vec<Vec<u8>>,
}

const CHANGES: usize = 3;

impl History {
    async fn with(forgets: Option<Sync>) -> Self {
        let top = tempfile::tempdir().unwrap();
        let model = Model::new(top.path(), forgets);
        let store = Local::open_on(&model.store(), Box::new(model.clone())).unwrap();
        let (mut marks, mut backups) = (Vec::new(), Vec::new());
        for change in 1..=CHANGES {
            marks.push(put(&store, &change.to_string()).await.unwrap());
            model.answered();
            backups.push(bytes_of(&model.store()));
        }
        let images = std::mem::take(&mut model.state().images);
        Self { images, marks, backups }
    }

    /// That what was answered is there after a crash, as it was known; and that a backup is told from it.
    async fn check(&self, image: &Image) -> Result<(), String> {
        let answered = image.answered;
        let top = laid_out(&image.tree);
        let store = Local::open(&store_below(top.path())).map_err(|error| error.to_string())?;
        let found = store.get(&key()).await.map_err(|error| error.to_string())?;
        let number = |value: Vec<u8>| String::from_utf8(value).unwrap().parse().unwrap();
        let value: usize = found.value.map_or(0, number);
        // The one under way may be there or not.
        if !(answered..=answered + 1).contains(&value) {
            return Err(format!("{value} is found where {answered} was answered"));
        }
        if answered > 0 && self.marks[value - 1] != found.mark {
            return Err(format!("{value} is known by {}", found.mark));
        }
        if answered > 1 {
            let top = laid_out(&image.tree);
            let path = store_below(top.path());
            std::fs::write(&path, &self.backups[answered - 2]).unwrap();
            if open(&path).position().0 == found.mark.incarnation {
                return Err(format!("a backup of {} passes for the store", answered - 1));
            }
        }
        Ok(())
    }

    async fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for image in &self.images {
            if let Err(fault) = self.check(image).await {
                let Image { answered, after, .. } = image;
                faults.push(format!("{answered} answered, after {after}: {fault}"));
            }
        }
        faults
    }
}

/// A tree, on a real disk.
fn laid_out(tree: &Tree) -> TempDir {
    let top = tempfile::tempdir().unwrap();
    for (below, bytes) in tree {
        let path = top.path().join(below);
        match bytes {
            None => std::fs::create_dir(path).unwrap(),
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
        }
    }
    top
}

#[tokio::test]
async fn a_crash_after_any_step_loses_nothing_that_was_answered() {
    let history = History::with(None).await;
    // Every step of every change, in more than one state.
    assert!(history.images.len() > CHANGES * STEPS.len(), "{}", history.images.len());
    assert_eq!(history.faults().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_step_that_is_left_out_is_missed() {
    for (step, says) in [
        (Sync::File, "1 answered, after the answer: the store"),
        (Sync::Folder, "1 answered, after the answer: 0 is found where 1 was answered"),
        (Sync::Above, "1 answered, after the answer: 0 is found where 1 was answered"),
        (Sync::Note, "1 answered, after the answer: 1 is known by "),
    ] {
        let faults = History::with(Some(step)).await.faults().await;
        assert!(faults.iter().any(|fault| fault.starts_with(says)), "{step:?}: {faults:#?}");
    }
}
