//! Whose gate the sockets of a running server meet: sockets keep the cgroup that they were made in, also when
//! their process is moved to another.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::GateError;
use crate::sock_diag::{SockDiag, States};

/// A listening TCP socket of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The id of the cgroup it belongs to: the inode number of the cgroup's directory.
    pub cgroup: u64,
}

/// The listening TCP sockets that a process has open, in the network namespace of the calling thread.
///
/// # Errors
/// There is no such process, or the kernel does not say.
pub fn listeners(pid: u32) -> Result<Vec<Listener>, GateError> {
    let failed = || GateError::sockets(pid);
    let own = inodes(pid).map_err(failed())?;
    let all = SockDiag::open().and_then(|kernel| kernel.all(States::LISTENING)).map_err(failed())?;
    let listener = |cgroup, address| Listener { address, cgroup };
    all.iter()
        .filter(|socket| own.contains(&socket.inode))
        .map(|socket| socket.cgroup.map(|cgroup| listener(cgroup, socket.local())))
        .collect::<Option<_>>()
        .ok_or_else(|| failed()(io::ErrorKind::Unsupported.into()))
}

/// Those of a process's listening TCP sockets that do not belong to a cgroup: where there are any, a gate on that
/// cgroup does not hold this server, and it must be restarted under one.
///
/// # Errors
/// As [`listeners`]; and the path is no directory.
pub fn outside(pid: u32, cgroup: &Path) -> Result<Vec<Listener>, GateError> {
    let cgroup = fs::metadata(cgroup).map_err(GateError::cgroup(cgroup))?.ino();
    let mut listeners = listeners(pid)?;
    listeners.retain(|listener| listener.cgroup != cgroup);
    Ok(listeners)
}

/// The inodes of the sockets that a process has open (`socket:[inode]`, proc_pid_fd(5)).
fn inodes(pid: u32) -> io::Result<BTreeSet<u32>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One that was closed meanwhile is not open.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u32>().ok()));
    }
    Ok(inodes)
}
