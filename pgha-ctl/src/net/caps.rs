//! Capabilities (capabilities(7)) of this process.

#[cfg(test)]
mod tests;

use std::{fmt, fs, io};

/// A capability pgha may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Addresses, links, neighbours, attaching XDP.
    NetAdmin,
    /// Packet sockets.
    NetRaw,
    /// Loading programs that read kernel memory or use bounded loops over packets.
    Perfmon,
    /// Loading programs and creating maps.
    Bpf,
}

impl Capability {
    /// The number in `linux/capability.h`.
    const fn number(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }

    /// `bpf_capable()` and `perfmon_capable()` take CAP_SYS_ADMIN instead (`linux/capability.h`).
    const fn included_in_sys_admin(self) -> bool {
        matches!(self, Self::Perfmon | Self::Bpf)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// The effective capabilities could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum CapsError {
    #[error("/proc/thread-self/status cannot be read: {source}; is /proc mounted?")]
    Read { source: io::Error },
    #[error("/proc/thread-self/status has no readable CapEff line; is it Linux's?")]
    Format,
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

fn effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

const fn has(effective: u64, capability: Capability) -> bool {
    const SYS_ADMIN: u32 = 21;
    effective >> capability.number() & 1 == 1
        || capability.included_in_sys_admin() && effective >> SYS_ADMIN & 1 == 1
}
