//! Files with secrets, which their owner alone may read.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

/// A file with secrets cannot be used. The messages begin with its path.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum PrivateFileError {
    #[error("{} cannot be read: {source}; create it for the user pgha runs as", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a plain file; name one", .path.display())]
    NotAFile { path: PathBuf },
    #[error("{} has mode {mode:04o}, open to group or others; run: chmod 0600 {}", .path.display(), .path.display())]
    Open { path: PathBuf, mode: u32 },
}

/// The content of the file, if its owner alone may read it.
///
/// # Errors
/// It cannot be read, or others may read it too.
pub fn read(path: &Path) -> Result<Vec<u8>, PrivateFileError> {
    let unreadable = |source| PrivateFileError::Read { path: path.to_owned(), source };
    // A FIFO would wait for somebody to write to it.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = opened.map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Open { path: path.to_owned(), mode });
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_its_owner_may_read_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(matches!(read(&path), Err(PrivateFileError::Read { .. })));
        assert!(matches!(read(directory.path()), Err(PrivateFileError::NotAFile { .. })));
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(read(&fifo), Err(PrivateFileError::NotAFile { .. })));
        fs::write(&path, "x").unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), usable, "mode {mode:o}");
        }
    }
}
