//! Files that are either there whole or not at all.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes a directory with a mode, with those above it that are missing. Each outlives a crash, by `sync` of
/// the one it is in; if that fails, it is not left there, so that the next attempt makes it anew.
pub(crate) fn directory(
    path: &Path,
    mode: u32,
    sync: &impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        directory(above, mode, sync)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync(above.unwrap_or(Path::new("."))).inspect_err(|_| {
            let _ = std::fs::remove_dir(path);
        }),
    }
}

/// Has what was made, renamed or removed in a directory outlive a crash.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Puts `content` at `path` in one step: written beside it, synced, renamed. What was there is replaced.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    // A leftover may have another mode than is wanted now.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync)
}
