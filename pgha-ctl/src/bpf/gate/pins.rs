//! Where the gates are pinned: a directory for each start of PostgreSQL.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::programs::CgroupSkbAttachType;
use aya::programs::cgroup_skb::CgroupSkbLink;
use aya::programs::links::FdLink;

use super::super::{PinDirectory, syscall, unpin};
use super::GateError;

/// The directory of all gates of a cluster on this node.
const GATES: &str = "gate";
/// What the directory of a gate ends in while it is being made. A BPF file system takes no dots.
const UNFINISHED: &str = "-new";
/// Names of the pins beside the maps.
const ORDERS: &str = "orders";
const LINKS: [&str; 2] = ["ingress", "egress"];

/// The pins of one start's gate.
pub(super) struct Pins {
    start: u64,
    path: PathBuf,
}

impl Pins {
    /// Makes the directory of a gate to be, empty. What a crash left of the same start is removed.
    pub(super) fn make(pins: &PinDirectory, start: u64) -> Result<Self, GateError> {
        let gates = pins.join(GATES);
        if gates.join(start.to_string()).exists() {
            return Err(GateError::Exists { start });
        }
        let made = Self { start, path: gates.join(format!("{start}{UNFINISHED}")) };
        made.remove()?;
        fs::create_dir_all(&made.path).map_err(GateError::file(&made.path))?;
        Ok(made)
    }

    /// The pins of a gate that is there.
    pub(super) fn of(pins: &PinDirectory, start: u64) -> Result<Self, GateError> {
        let path = pins.join(GATES).join(start.to_string());
        if path.exists() {
            Ok(Self { start, path })
        } else {
            Err(GateError::Missing { start, path })
        }
    }

    /// Gives the directory its name, in one step: from here on the gate is there.
    pub(super) fn finish(self) -> Result<Self, GateError> {
        let path = self.path.with_file_name(self.start.to_string());
        fs::rename(&self.path, &path).map_err(GateError::file(&path))?;
        Ok(Self { path, ..self })
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, map: &str) -> PathBuf {
        self.path.join(map)
    }

    /// Where the program is pinned that carries out orders.
    pub(super) fn orders(&self) -> PathBuf {
        self.path.join(ORDERS)
    }

    /// Pins the link of a direction.
    pub(super) fn pin_link(
        &self,
        link: CgroupSkbLink,
        direction: CgroupSkbAttachType,
    ) -> Result<(), GateError> {
        let name = match direction {
            CgroupSkbAttachType::Ingress => LINKS[0],
            CgroupSkbAttachType::Egress => LINKS[1],
        };
        let path = self.path.join(name);
        let link = FdLink::try_from(link).map_err(GateError::link(&path))?;
        link.pin(&path).map_err(GateError::pin(&path)).map(drop)
    }

    /// The ids of the cgroups that the links are on; 0 for one that is gone.
    pub(super) fn cgroups(&self) -> Result<[u64; 2], GateError> {
        let cgroup = |name| {
            let path = self.path.join(name);
            let link = syscall::open_pin(&path).map_err(GateError::file(&path))?;
            syscall::cgroup_of(link.as_fd()).map_err(GateError::file(&path))
        };
        Ok([cgroup(LINKS[0])?, cgroup(LINKS[1])?])
    }

    /// Unpins everything.
    pub(super) fn remove(&self) -> Result<(), GateError> {
        remove(&self.path)
    }
}

/// The starts of a cluster on this node that have a gate, in ascending order.
///
/// # Errors
/// What the file system says.
pub fn starts(pins: &PinDirectory) -> Result<Vec<u64>, GateError> {
    let mut starts: Vec<u64> = directories(&pins.join(GATES))?
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .collect();
    starts.sort_unstable();
    Ok(starts)
}

/// Unpins the gates of starts that are over, and those that a crash left unfinished; which of them those were.
///
/// A start is over when the kernel has let go of its cgroup. That is later than the cgroup's removal: sockets of
/// dead processes still send what they have, and the gate is there to drop it.
///
/// # Errors
/// What the file system says. Then some that are over may be left, for the next call.
pub fn remove_ended(pins: &PinDirectory) -> Result<Vec<u64>, GateError> {
    let mut removed = Vec::new();
    for start in starts(pins)? {
        let gate = Pins::of(pins, start)?;
        if gate.cgroups()? == [0, 0] {
            gate.remove()?;
            removed.push(start);
        }
    }
    for path in directories(&pins.join(GATES))? {
        if path.to_string_lossy().ends_with(UNFINISHED) {
            remove(&path)?;
        }
    }
    Ok(removed)
}

fn directories(gates: &Path) -> Result<Vec<PathBuf>, GateError> {
    match fs::read_dir(gates) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let entries: io::Result<Vec<_>> = entries.and_then(Iterator::collect);
            let entries = entries.map_err(GateError::file(gates))?;
            Ok(entries.iter().map(fs::DirEntry::path).collect())
        }
    }
}

/// Unpins everything in a directory, and removes that. One that is not there is no error.
fn remove(path: &Path) -> Result<(), GateError> {
    for pin in directories(path)? {
        unpin(&pin)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(GateError::file(path)(error)),
        _ => Ok(()),
    }
}
