//! Files of a data directory that are a node's own: kept aside while the rest becomes another's.
//!
//! All of it is done in the name of PostgreSQL's user, so what belonged to another (a key may be root's) belongs to that
//! user afterwards, and nobody else may use it: PostgreSQL takes no key of its own user's that others can read.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::rpc::durable;

#[cfg(test)]
mod tests;

/// Copies what of `data` matches a pattern to `aside`, which is replaced as a whole.
pub(super) fn keep(data: &Path, patterns: &[String], aside: &Path) -> io::Result<Vec<PathBuf>> {
    let beside = aside.with_added_extension("new");
    remove(&beside)?;
    fs::create_dir_all(&beside)?;
    let kept = own(data, patterns)?;
    for path in &kept {
        copy(path, &beside.join(path.file_name().unwrap_or_default()))?;
    }
    durable::sync(&beside)?;
    remove(aside)?;
    fs::rename(&beside, aside)?;
    aside.parent().map_or(Ok(()), durable::sync)?;
    Ok(kept)
}

/// Puts what is `aside` into `data`, in the place of whatever matches there.
pub(super) fn put_back(aside: &Path, data: &Path, patterns: &[String]) -> io::Result<()> {
    clear(data, patterns)?;
    for entry in fs::read_dir(aside)? {
        let entry = entry?;
        copy(&entry.path(), &data.join(entry.file_name()))?;
    }
    durable::sync(data)
}

/// Removes from `data` what matches a pattern.
pub(super) fn clear(data: &Path, patterns: &[String]) -> io::Result<()> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    own(data, patterns)?.iter().try_for_each(|path| remove(path).map_err(named(path)))
}

fn own(data: &Path, patterns: &[String]) -> io::Result<Vec<PathBuf>> {
    let mut own = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if patterns.iter().any(|pattern| matches(pattern, &entry.file_name())) {
            own.push(entry.path());
        }
    }
    own.sort();
    Ok(own)
}

/// Whether a pattern is this name's: `*` is any beginning.
fn matches(pattern: &str, name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

/// With its mode, and a link as a link; a directory with all that is in it. Synced.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
    let metadata = fs::symlink_metadata(from).map_err(named)?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if metadata.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        fs::copy(from, to).map_err(named)?;
    }
    let of_another = metadata.uid() != fs::metadata(to)?.uid();
    let mode = metadata.mode() & if of_another { 0o700 } else { 0o7777 };
    let synced = fs::File::open(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    synced.sync_all()
}

/// Removes what may be there, whatever it is.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
