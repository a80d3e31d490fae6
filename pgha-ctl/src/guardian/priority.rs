//! A process that is never swapped out, and runs before every ordinary one.

use std::io;

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};

/// Of 1 to 99: before every ordinary process, behind the kernel's own interrupt threads (50).
const PRIORITY: i32 = 10;

/// Locks all of this process's memory, now and later.
///
/// # Errors
/// EPERM without CAP_IPC_LOCK; ENOMEM beyond RLIMIT_MEMLOCK.
pub(super) fn lock_memory() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)?)
}

/// Has this process run as soon as it has something to do: SCHED_FIFO.
///
/// # Errors
/// EPERM without CAP_SYS_NICE, and in a cgroup v1 `cpu` group without real-time budget.
pub(super) fn run_first() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the kernel only reads the parameters, which outlive the call. 0 is this process.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
