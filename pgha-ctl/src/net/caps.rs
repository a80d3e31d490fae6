//! Capabilities (capabilities(7)) of this process: which it lacks, and giving up those that it does not need.
//!
//! The sets are changed by the crate `caps`, which has the kernel's structures and numbers.

#[cfg(test)]
mod tests;

use std::{fmt, fs, io};

use caps::{CapSet, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;

/// A capability pgha may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Giving a directory to PostgreSQL's user.
    Chown,
    /// Signals to PostgreSQL, which belongs to another user.
    Kill,
    /// Being in the groups of another user.
    Setgid,
    /// Being another user: PostgreSQL's.
    Setuid,
    /// Addresses, links, neighbours, attaching XDP and the lease gate.
    NetAdmin,
    /// Packet sockets.
    NetRaw,
    /// Memory that is never swapped out.
    IpcLock,
    /// Real-time priority.
    SysNice,
    /// Loading programs that read kernel memory or use bounded loops over packets.
    Perfmon,
    /// Loading programs and creating maps.
    Bpf,
}

impl Capability {
    const fn known(self) -> caps::Capability {
        match self {
            Self::Chown => caps::Capability::CAP_CHOWN,
            Self::Kill => caps::Capability::CAP_KILL,
            Self::Setgid => caps::Capability::CAP_SETGID,
            Self::Setuid => caps::Capability::CAP_SETUID,
            Self::NetAdmin => caps::Capability::CAP_NET_ADMIN,
            Self::NetRaw => caps::Capability::CAP_NET_RAW,
            Self::IpcLock => caps::Capability::CAP_IPC_LOCK,
            Self::SysNice => caps::Capability::CAP_SYS_NICE,
            Self::Perfmon => caps::Capability::CAP_PERFMON,
            Self::Bpf => caps::Capability::CAP_BPF,
        }
    }

    /// `bpf_capable()` and `perfmon_capable()` take CAP_SYS_ADMIN instead (`linux/capability.h`).
    const fn included_in_sys_admin(self) -> bool {
        matches!(self, Self::Perfmon | Self::Bpf)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.known().to_string())
    }
}

/// The capabilities of this process could not be read, or not be given up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum CapsError {
    #[error("/proc/thread-self/status cannot be read: {source}; is /proc mounted?")]
    Read { source: io::Error },
    #[error("/proc/thread-self/status has no readable CapEff line; is it Linux's?")]
    Format,
    #[error("the kernel lets this process give up no capabilities: {0}")]
    Keep(#[from] caps::errors::CapsError),
}

/// Which of `wanted` the calling thread lacks, in the order of `wanted`.
///
/// In a user namespace of its own a process can have them all and the kernel still refuses BPF,
/// which asks the initial user namespace.
///
/// # Errors
/// `/proc` is not there.
pub fn missing(wanted: &[Capability]) -> Result<Vec<Capability>, CapsError> {
    let status = fs::read_to_string("/proc/thread-self/status")
        .map_err(|source| CapsError::Read { source })?;
    let effective = effective(&status).ok_or(CapsError::Format)?;
    Ok(wanted.iter().copied().filter(|capability| !has(effective, *capability)).collect())
}

/// Gives up every capability but these, for good: on the calling thread, and in each thread and process that comes
/// of it. Nothing that is run later has more, whatever its file says (`no_new_privs`).
///
/// Called while there is one thread: capabilities are a thread's.
///
/// # Errors
/// What the kernel says.
pub fn keep(wanted: &[Capability]) -> Result<(), CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept = kept(wanted, &permitted);
    without_new_privileges().map_err(|error| caps::errors::CapsError::from(error.to_string()))?;
    if permitted.contains(&caps::Capability::CAP_SETPCAP) {
        for given_up in caps::all().difference(&kept) {
            if caps::has_cap(None, CapSet::Bounding, *given_up).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, *given_up)?;
            }
        }
    }
    // Without that, the bounding set stays as it was found, and gives nothing away: nobody gains anything any more.
    for given_up in caps::all().difference(&kept) {
        if caps::has_cap(None, CapSet::Ambient, *given_up).unwrap_or(false) {
            caps::drop(None, CapSet::Ambient, *given_up)?;
        }
    }
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let now = caps::read(None, set)?;
        caps::set(None, set, &now.intersection(&kept).copied().collect())?;
    }
    Ok(())
}

/// What stays of `permitted`, for the sake of `wanted`.
fn kept(wanted: &[Capability], permitted: &CapsHashSet) -> CapsHashSet {
    let known = wanted.iter().map(|capability| {
        let own = capability.known();
        if permitted.contains(&own) || !capability.included_in_sys_admin() {
            own
        } else {
            caps::Capability::CAP_SYS_ADMIN
        }
    });
    known.collect()
}

/// Gives up every capability that is in force or could come to be, and whatever a program's file would give. For a
/// forked child, before it runs a program of somebody else's: makes only system calls unless it fails.
///
/// # Errors
/// What the kernel says.
pub fn give_up_all() -> io::Result<()> {
    without_new_privileges()?;
    let cleared = [CapSet::Ambient, CapSet::Inheritable, CapSet::Permitted];
    cleared.into_iter().try_for_each(|set| caps::clear(None, set)).map_err(io::Error::other)
}

fn without_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs()?)
}

fn effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn has(effective: u64, capability: Capability) -> bool {
    let is_in = |capability: caps::Capability| effective & capability.bitmask() != 0;
    is_in(capability.known())
        || capability.included_in_sys_admin() && is_in(caps::Capability::CAP_SYS_ADMIN)
}

/// Their names, for people.
pub(crate) fn names(capabilities: &[Capability]) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
