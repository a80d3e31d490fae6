//! A thread that may do what a controller may, and no more.
use std::io;
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context as _, Result};
use nix::libc;

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON and CAP_BPF (linux/capability.h).
const CONTROLLERS: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

/// Runs a task with the capabilities of a controller alone, where the calling thread is.
pub(crate) fn confined<T: Send>(task: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let confined = scope.spawn(|| {
            confine().unwrap();
            task()
        });
        confined.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// For this thread, and for good.
fn confine() -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let half = |shift: u32| -> Result<Half> {
        let bits = u32::try_from(CONTROLLERS >> shift & u64::from(u32::MAX))?;
        Ok(Half { effective: bits, permitted: bits, inheritable: 0 })
    };
    let header = Header { version: VERSION, pid: 0 };
    let halves = [half(0)?, half(32)?];
    // SAFETY: the kernel only reads the header and, by its version, two halves; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("capset") }
}
