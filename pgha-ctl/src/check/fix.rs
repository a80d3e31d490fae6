//! What `pgha check --fix` does: nothing that cannot be taken back, and nothing to PostgreSQL.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Check;
use super::judge::{BPFFS, READER};
use crate::bpf::kernel;
use crate::config::Config;
use crate::controller::vips;
use crate::net::realserver::{self, RealServerError};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fix {
    /// Mount a BPF file system there.
    MountBpffs(PathBuf),
    /// What `pgha realserver setup` does.
    RealServer(Vec<IpAddr>),
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MountBpffs(path) => write!(f, "mount a BPF file system at {}", path.display()),
            Self::RealServer(vips) => {
                let vips: Vec<_> = vips.iter().map(IpAddr::to_string).collect();
                write!(f, "make this node a real server of {}", vips.join(", "))
            }
        }
    }
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// What.
    pub done: String,
    /// How to take it back.
    pub take_back: String,
}

/// Something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// The directory to mount at.
    #[error("{path} is no directory, so nothing can be mounted there; make it: mkdir -p {path}")]
    NoDirectory {
        /// Where.
        path: PathBuf,
    },
    /// Files would be out of sight.
    #[error(
        "{path} is not empty, and a mount would hide what is there; empty it, or give [director] bpffs \
         another directory"
    )]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// Another file system would be out of sight.
    #[error(
        "another file system is mounted at {path}, and a mount would hide it; unmount it, or give \
         [director] bpffs another directory"
    )]
    Mounted {
        /// Where.
        path: PathBuf,
    },
    /// The mount.
    #[error("no BPF file system can be mounted at {path}: {source}; it takes root (CAP_SYS_ADMIN)")]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The set-up as a real server.
    #[error("this node cannot be made a real server: {0}")]
    RealServer(#[from] RealServerError),
}

/// What mends the checks that can be mended, each once.
pub(super) fn wanted(checks: &[Check], config: &Config) -> Vec<Fix> {
    let wants = |ids: &[&str]| checks.iter().any(|c| c.fixable && ids.contains(&c.id.as_str()));
    let mut fixes = Vec::new();
    if wants(&[BPFFS]) {
        fixes.push(Fix::MountBpffs(config.director().bpffs().to_owned()));
    }
    if wants(&READER) {
        fixes.push(Fix::RealServer(vips(config)));
    }
    fixes
}

pub(super) async fn carry_out(fix: &Fix, state_dir: &Path) -> Result<Fixed, FixError> {
    match fix {
        Fix::MountBpffs(path) => {
            hides_nothing(path)?;
            kernel::mount_bpffs(path)
                .map_err(|source| FixError::Mount { path: path.clone(), source })?;
            let path = path.display();
            Ok(Fixed {
                done: format!(
                    "mounted a BPF file system at {path}, until the next start of this node; for good: \
                     a line `bpf {path} bpf defaults 0 0` in /etc/fstab"
                ),
                take_back: format!("umount {path}"),
            })
        }
        Fix::RealServer(vips) => {
            let earlier = realserver::is_recorded(state_dir)?;
            let report = realserver::setup(vips, state_dir).await?;
            let undo = format!("pgha realserver undo --state-dir {}", state_dir.display());
            Ok(Fixed {
                done: report.to_string().replace('\n', "; "),
                // A shell takes what follows the number sign for a comment.
                take_back: if earlier {
                    format!("{undo} # with it all of the earlier set-up of this node")
                } else {
                    undo
                },
            })
        }
    }
}

/// Whether something can be mounted there without a file or another mount out of sight.
fn hides_nothing(path: &Path) -> Result<(), FixError> {
    if !path.is_dir() {
        return Err(FixError::NoDirectory { path: path.to_owned() });
    }
    let mount = |source| FixError::Mount { path: path.to_owned(), source };
    let real = path.canonicalize().map_err(mount)?;
    let device = |path: &Path| fs::metadata(path).map(|there| there.dev()).map_err(mount);
    // The root directory is a mount point.
    let Some(parent) = real.parent() else {
        return Err(FixError::Mounted { path: path.to_owned() });
    };
    if device(&real)? != device(parent)? {
        return Err(FixError::Mounted { path: path.to_owned() });
    }
    if fs::read_dir(&real).map_err(mount)?.next().is_some() {
        return Err(FixError::NotEmpty { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
