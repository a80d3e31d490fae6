use std::io;
use std::path::{Path, PathBuf};

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use aya::sys::SyscallError;

use super::super::PinError;

/// What a gate's program and cgroup take of rights.
const RIGHTS: &str = "it takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";

/// A lease gate could not be made, found, read or given an order.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum GateError {
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(
        "start {start} of PostgreSQL has a lease gate already; give each start a number of its own"
    )]
    Exists { start: u64 },
    #[error(
        "start {start} of PostgreSQL has no lease gate at {path}; a server without one must be restarted \
         by the agent"
    )]
    Missing { start: u64, path: PathBuf },
    #[error(
        "the lease gate of start {start} is not on {cgroup} but on the cgroup with the id {found} (0: one that \
         is gone); the server must be restarted by the agent"
    )]
    Elsewhere { start: u64, cgroup: PathBuf, found: u64 },
    #[error(
        "cgroup {path} cannot be opened: {source}; it must be a directory of the cgroup2 file system"
    )]
    Cgroup { path: PathBuf, source: io::Error },
    #[error(
        "the kernel may not {what} the lease gate at {path}: no permission; {RIGHTS}, or an ancestor of the \
         cgroup has a program that allows none beside it (bpftool cgroup tree)"
    )]
    Permission { what: &'static str, path: PathBuf },
    #[error("the lease gate cannot be attached to {path}: {source}; is it a cgroup v2 directory?")]
    Attach { path: PathBuf, source: ProgramError },
    #[error("the kernel does not load the lease gate: {0}; {RIGHTS}, and Linux 5.15")]
    Load(EbpfError),
    #[error("the kernel does not {what} the lease gate's program {path}: {source}; {RIGHTS}")]
    Program { what: &'static str, path: PathBuf, source: ProgramError },
    #[error("the lease gate cannot be pinned at {path}: {source}")]
    Pinning { path: PathBuf, source: aya::pin::PinError },
    #[error("the link {path} of the lease gate cannot be used: {source}")]
    Link { path: PathBuf, source: LinkError },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("map {map} of the lease gate of start {start} cannot be used: {source}")]
    Map { start: u64, map: &'static str, source: MapError },
    #[error("the lease gate cannot be protected against user space: {0}; it takes Linux 5.2")]
    Freeze(io::Error),
    #[error("the kernel does not carry out an order to the lease gate of start {start}: {source}")]
    Order { start: u64, source: ProgramError },
    #[error(
        "the lease gate of start {start} did not do what it was told; somebody else gives it orders"
    )]
    Ignored { start: u64 },
    #[error(
        "the object of the lease gate has no {0}: this pgha was not built by `cargo xtask build`"
    )]
    Incomplete(&'static str),
    #[error("the listening sockets of process {pid} cannot be found out: {source}")]
    Sockets { pid: u32, source: io::Error },
}

impl GateError {
    pub(super) fn cgroup(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Cgroup { path: path.to_owned(), source }
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }

    pub(super) fn attach(path: &Path) -> impl FnOnce(ProgramError) -> Self {
        move |source| {
            if let ProgramError::SyscallError(SyscallError { io_error, .. }) = &source
                && io_error.kind() == io::ErrorKind::PermissionDenied
            {
                return Self::Permission { what: "attach", path: path.to_owned() };
            }
            Self::Attach { path: path.to_owned(), source }
        }
    }

    pub(super) const fn load(source: EbpfError) -> Self {
        Self::Load(source)
    }

    pub(super) fn program(what: &'static str, path: &Path) -> impl FnOnce(ProgramError) -> Self {
        move |source| Self::Program { what, path: path.to_owned(), source }
    }

    pub(super) fn pin(path: &Path) -> impl FnOnce(aya::pin::PinError) -> Self {
        move |source| Self::Pinning { path: path.to_owned(), source }
    }

    pub(super) fn link(path: &Path) -> impl FnOnce(LinkError) -> Self {
        move |source| Self::Link { path: path.to_owned(), source }
    }

    pub(super) fn map(start: u64, map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { start, map, source }
    }

    pub(super) const fn freeze(source: io::Error) -> Self {
        Self::Freeze(source)
    }

    pub(super) fn order(start: u64) -> impl FnOnce(ProgramError) -> Self {
        move |source| Self::Order { start, source }
    }

    pub(super) fn sockets(pid: u32) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Sockets { pid, source }
    }
}
