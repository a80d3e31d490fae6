//! What the data directory was when the agent first came to it: `pgha init` founds a cluster by that.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::postgres::server::OsUser;
use crate::rpc::durable;

const FILE: &str = "origin.json";

/// The data directory, by its control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Origin {
    /// Its system identifier.
    pub(super) system: u64,
    /// It was last a primary's, not a standby's.
    pub(super) was_primary: bool,
}

/// It cannot be found out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum OriginError {
    #[error("cannot run {}: {source}; correct [agent] bin", .program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("{} says of {}: {words}; correct [agent] data, or make the data directory by pg_basebackup", .program.display(), .data.display())]
    Failed { program: PathBuf, data: PathBuf, words: String },
    #[error(
        "{} belongs to the user with the number {owner}, and PostgreSQL takes only a data directory of its own user: \
         correct [agent] user, or give it the directory (chown -R)",
        .data.display()
    )]
    Owner { data: PathBuf, owner: u32 },
    #[error("{} cannot be used: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{} belongs to another cluster: its system identifier is {found}, and was {system}; put the former directory \
         back, or one made by pg_basebackup. Where this node is to be of that other cluster, remove {}",
        .data.display(),
        .state.display()
    )]
    Replaced { data: PathBuf, found: u64, system: u64, state: PathBuf },
}

impl Origin {
    /// What was found the first time, and is found now for the next.
    ///
    /// # Errors
    /// There is no data directory, or the state directory cannot be used.
    pub(super) fn find(
        user: &OsUser,
        bin: &Path,
        data: &Path,
        state: &Path,
    ) -> Result<Self, OriginError> {
        if let Ok(Some(owner)) = user.with_files(|| user.other_owner(data)) {
            return Err(OriginError::Owner { data: data.to_owned(), owner });
        }
        let path = state.join(FILE);
        let failed = |source| OriginError::File { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(known) => {
                let known: Self =
                    serde_json::from_slice(&known).map_err(|error| failed(error.into()))?;
                // One that cannot be read now may be in the middle of a rewind, which goes on.
                return match look(user, bin, data) {
                    Ok(now) if now.system != known.system => Err(OriginError::Replaced {
                        data: data.to_owned(),
                        found: now.system,
                        system: known.system,
                        state: state.to_owned(),
                    }),
                    Ok(_) | Err(_) => Ok(known),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let origin = look(user, bin, data)?;
        let text = serde_json::to_vec(&origin).map_err(|error| failed(error.into()))?;
        durable::replace(&path, &text, 0o600).map_err(failed)?;
        Ok(origin)
    }
}

fn look(user: &OsUser, bin: &Path, data: &Path) -> Result<Origin, OriginError> {
    let program = bin.join("pg_controldata");
    let output = user.command(&program).arg("-D").arg(data).env("LC_ALL", "C").output();
    let output = output.map_err(|source| OriginError::Run { program: program.clone(), source })?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let read = output.status.success().then(|| read(&words)).flatten();
    read.ok_or_else(|| OriginError::Failed {
        program,
        data: data.to_owned(),
        words: String::from_utf8_lossy(&output.stderr).trim().to_owned() + words.trim(),
    })
}

/// Reads what `pg_controldata` prints (PostgreSQL's `dbState` in `pg_controldata.c`).
fn read(text: &str) -> Option<Origin> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    let state = value("Database cluster state:")?;
    Some(Origin {
        system: value("Database system identifier:")?.parse().ok()?,
        was_primary: matches!(state, "shut down" | "in production" | "in crash recovery"),
    })
}
