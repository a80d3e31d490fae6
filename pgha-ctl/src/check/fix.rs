//! What `pgha check --fix` does: nothing that cannot be taken back, and nothing to PostgreSQL.

use std::fmt;
use std::io;
use std::net::IpAddr;
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
            if !path.is_dir() {
                return Err(FixError::NoDirectory { path: path.clone() });
            }
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
            let report = realserver::setup(vips, state_dir).await?;
            Ok(Fixed {
                done: report.to_string().replace('\n', "; "),
                take_back: format!("pgha realserver undo --state-dir {}", state_dir.display()),
            })
        }
    }
}
