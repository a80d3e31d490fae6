//! A file that is there for a while and leaves no trace.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

#[cfg(test)]
mod tests;

/// A file, and the folders made for it, that are removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    path: PathBuf,
    /// The innermost first.
    made_folders: Vec<PathBuf>,
}

impl TemporaryFile {
    /// Writes `content` to `path`, or answers `None` when a file of somebody else is there.
    ///
    /// A file with the very same content was left by a run that was killed, and is adopted.
    pub(crate) fn create(path: &Path, content: &str, mode: u32) -> Result<Option<Self>> {
        if let Ok(existing) = fs::read(path) {
            let ours = existing == content.as_bytes();
            return Ok(ours.then(|| Self { path: path.to_owned(), made_folders: Vec::new() }));
        }
        let missing = path.ancestors().skip(1).take_while(|folder| !folder.exists());
        let made_folders: Vec<_> = missing.map(Path::to_owned).collect();
        let this = Self { path: path.to_owned(), made_folders };
        this.write(content, mode).with_context(|| {
            format!("cannot write {}, which the installation needs for a while", path.display())
        })?;
        Ok(Some(this))
    }

    fn write(&self, content: &str, mode: u32) -> std::io::Result<()> {
        for folder in self.made_folders.iter().rev() {
            fs::create_dir(folder)?;
        }
        let mut file: File =
            File::options().write(true).create_new(true).mode(mode).open(&self.path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content.as_bytes())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("warning: remove {} by hand: {error}", self.path.display());
        }
        for folder in &self.made_folders {
            // What others have put there meanwhile keeps the folder.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}
