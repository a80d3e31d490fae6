//! The record of a set-up: what was there before, written durably before each change.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::RealServerError;
use super::sysctl::{self, Setting};

const NAME: &str = "realserver.json";
const VERSION: u32 = 1;

/// What marks the file as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Magic {
    #[serde(rename = "pgha-realserver")]
    RealServer,
}

/// The part of the file that every version has.
#[derive(Deserialize)]
struct Header {
    #[expect(dead_code, reason = "its reading is the check")]
    magic: Magic,
    version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    magic: Magic,
    version: u32,
    /// The inode of the network namespace it is about.
    namespace: u64,
    /// In the order they were set, each with the value found the first time.
    pub(super) sysctls: Vec<Setting>,
    /// Those the set-up added, not those it found.
    pub(super) addresses: Vec<IpAddr>,
}

impl Record {
    pub(super) const fn empty(namespace: u64) -> Self {
        Self {
            magic: Magic::RealServer,
            version: VERSION,
            namespace,
            sysctls: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// Whether there is nothing to take back.
    pub(super) const fn is_empty(&self) -> bool {
        self.sysctls.is_empty() && self.addresses.is_empty()
    }
}

/// The state directory, locked against another run until dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    directory: Flock<File>,
    namespace: u64,
}

impl StateDir {
    /// Opens the directory, made if need be.
    pub(super) fn create(path: &Path) -> Result<Self, RealServerError> {
        fs::create_dir_all(path).map_err(file("created", path))?;
        Self::lock(path, File::open(path).map_err(file("opened", path))?)
    }

    /// Opens the directory if it exists.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, RealServerError> {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file("opened", path)(source)),
            Ok(directory) => Self::lock(path, directory).map(Some),
        }
    }

    fn lock(path: &Path, directory: File) -> Result<Self, RealServerError> {
        let refused = |errno: Errno| {
            if errno == Errno::EWOULDBLOCK {
                RealServerError::Busy { path: path.to_owned() }
            } else {
                file("locked", path)(errno.into())
            }
        };
        let directory = Flock::lock(directory, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| refused(errno))?;
        Ok(Self { path: path.to_owned(), directory, namespace: sysctl::namespace()? })
    }

    pub(super) const fn namespace(&self) -> u64 {
        self.namespace
    }

    /// The record, if there is one.
    pub(super) fn load(&self) -> Result<Option<Record>, RealServerError> {
        let path = self.path.join(NAME);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(file("read", &path))?,
        };
        let damaged = |source| RealServerError::Damaged { path: path.clone(), source };
        let Header { version, .. } = serde_json::from_slice(&text).map_err(damaged)?;
        if version != VERSION {
            return Err(RealServerError::Version { path, found: version, known: VERSION });
        }
        let record: Record = serde_json::from_slice(&text).map_err(damaged)?;
        if record.namespace != self.namespace {
            let (recorded, here) = (record.namespace, self.namespace);
            return Err(RealServerError::OtherNamespace { path, recorded, here });
        }
        Ok(Some(record))
    }

    /// Replaces the record; it is on disk when this returns.
    pub(super) fn save(&self, record: &Record) -> Result<(), RealServerError> {
        let path = self.path.join(NAME);
        let next = self.path.join(format!(".{NAME}.next"));
        let text = serde_json::to_vec_pretty(record)
            .map_err(|source| RealServerError::Damaged { path: path.clone(), source })?;
        let mut new = File::create(&next).map_err(file("created", &next))?;
        new.write_all(&text).and_then(|()| new.sync_all()).map_err(file("written", &next))?;
        fs::rename(&next, &path).map_err(file("replaced", &path))?;
        self.sync()
    }

    /// Removes the record.
    pub(super) fn forget(&self) -> Result<(), RealServerError> {
        let path = self.path.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(file("removed", &path)(source)),
            Ok(()) => self.sync(),
        }
    }

    fn sync(&self) -> Result<(), RealServerError> {
        self.directory.sync_all().map_err(file("synced", &self.path))
    }
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RealServerError {
    move |source| RealServerError::File { what, path: path.to_owned(), source }
}
