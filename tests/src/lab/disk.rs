//! A disk of its own: a file system in a file, which can be made to stand still as one does whose storage has gone
//! silent. Who writes to it then hangs in the kernel, and no signal ends that.
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Lab;
use super::process::Cmd;

/// Its size: the smallest that ext4 gives a journal.
const SIZE: u64 = 16 * 1024 * 1024;
const MOUNT: &str = "disk";

/// A disk that is mounted. Dropping it lets it go on; the lab's end unmounts it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Lab {
    /// The disk of this lab. There is one.
    ///
    /// # Errors
    /// When the machine has no loop device to spare, or there is one already.
    pub fn disk(&self) -> Result<Disk> {
        let (image, path) = (self.directory().join("disk.image"), self.directory().join(MOUNT));
        std::fs::create_dir(&path)?;
        std::fs::File::create_new(&image)?.set_len(SIZE)?;
        Cmd::new(["mkfs.ext4", "-q", "-F"]).args([&image]).run()?;
        Cmd::new(["mount", "-o", "loop"]).args([&image, &path]).run()?;
        Ok(Disk { path })
    }
}

impl Disk {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing is written to it from here on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self) -> Result<()> {
        Cmd::new(["fsfreeze", "--freeze"]).args([&self.path]).run().map(drop)
    }

    /// What waits to be written is.
    ///
    /// # Errors
    /// When it does not stand still.
    pub fn thaw(&self) -> Result<()> {
        Cmd::new(["fsfreeze", "--unfreeze"]).args([&self.path]).run().map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may have been thawed already.
        let _ = self.thaw();
    }
}

/// Where the disk of a lab is mounted, if it has one. It is let go on: whoever hangs on it could not be ended.
pub(super) fn release(run: &Path) -> Option<PathBuf> {
    let path = run.join(MOUNT);
    path.is_dir().then(|| {
        let _ = Cmd::new(["fsfreeze", "--unfreeze"]).args([&path]).run();
        path
    })
}
