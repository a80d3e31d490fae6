//! A disk of its own: a file system in a file, which can be made to stand still as one does whose storage has gone
//! silent, or to be full. Who writes to one that stands still hangs in the kernel, and no signal ends that.
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::Lab;
use super::process::Cmd;
use super::state::Places;

/// The size of the smallest that ext4 gives a journal.
const SIZE: u64 = 16 * 1024 * 1024;
const MOUNT: &str = "disk";
const TYPE: &str = "ext4";
/// What fills it.
const FILLING: &str = "filling";
const BLOCK: usize = 4096;

/// A disk that is mounted. Dropping it lets it go on; the lab's end unmounts it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Lab {
    /// A disk in the directory of this lab. There is one.
    ///
    /// # Errors
    /// When the machine has no loop device to spare, or there is one already.
    pub fn disk(&self) -> Result<Disk> {
        let (image, path) = (self.directory().join("disk.image"), self.directory().join(MOUNT));
        Disk::mount(&image, path, SIZE)
    }

    /// A disk of so many bytes in the place of a directory of a server, with what is there. Nobody uses it meanwhile.
    ///
    /// # Errors
    /// When the machine has no loop device to spare, or what is there does not fit.
    pub fn disk_under(&self, directory: &Path, size: u64) -> Result<Disk> {
        let [image, former] = ["image", "former"].map(|end| directory.with_added_extension(end));
        fs::rename(directory, &former)?;
        let disk = Disk::mount(&image, directory.to_owned(), size)?;
        // What PostgreSQL finds in the root of a file system is none of its.
        fs::remove_dir(directory.join("lost+found"))?;
        Cmd::new(["cp", "-a", "-T"]).args([former.as_path(), directory]).run()?;
        fs::remove_dir_all(former)?;
        Ok(disk)
    }
}

impl Disk {
    fn mount(image: &Path, path: PathBuf, size: u64) -> Result<Self> {
        fs::create_dir(&path)?;
        File::create_new(image)?.set_len(size)?;
        Cmd::new(["mkfs", "-t", TYPE, "-q", "-F"]).args([image]).run()?;
        Cmd::new(["mount", "-o", "loop"]).args([image, &path]).run()?;
        Ok(Self { path })
    }

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
        thaw(&self.path)
    }

    /// Not one block more fits on it, not for root either.
    ///
    /// # Errors
    /// When it cannot be written to for another reason.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.path.join(FILLING))?;
        for size in [BLOCK * 256, BLOCK] {
            let full = loop {
                if let Err(error) = file.write_all(&vec![0; size]) {
                    break error;
                }
            };
            ensure!(full.kind() == ErrorKind::StorageFull, "{}: {full}", self.path.display());
        }
        Ok(())
    }

    /// What filled it is removed.
    ///
    /// # Errors
    /// When nothing did.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.path.join(FILLING))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may have been thawed already.
        let _ = self.thaw();
    }
}

fn thaw(path: &Path) -> Result<()> {
    Cmd::new(["fsfreeze", "--unfreeze"]).args([path]).run().map(drop)
}

/// Where the disks of a lab are mounted. They are let go on: whoever hangs on one could not be ended.
pub(super) fn release(places: &Places) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of_lab = |line: &str| {
        let [_, path, kind, ..] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        let path = Path::new(path);
        let below = path.starts_with(&places.run) || path.starts_with(&places.data);
        (below && kind == TYPE).then(|| path.to_owned())
    };
    let disks: Vec<_> = mounts.lines().filter_map(of_lab).collect();
    // Those that did not stand still say so.
    disks.iter().for_each(|disk| drop(thaw(disk)));
    Ok(disks)
}
