//! What an agent may do: a few capabilities, and nothing else of root's.
//!
//! PostgreSQL's files are handled in the name of PostgreSQL's user ([`OsUser`]), so the agent needs no right over other users' files. PostgreSQL
//! itself gets no capability at all.

use super::error::AgentError;
use crate::config::Agent;
use crate::net::caps::{self, Capability};
use crate::postgres::server::OsUser;

#[cfg(test)]
mod tests;

/// Addresses and the lease gate. Without CAP_PERFMON the kernel's verifier also follows what a processor would do
/// speculatively, and the gate's loop is too long for that.
const ALWAYS: [Capability; 4] =
    [Capability::Bpf, Capability::NetAdmin, Capability::NetRaw, Capability::Perfmon];
/// To start and to signal PostgreSQL, and to handle its files, where it belongs to another user.
const OF_ANOTHER_USER: [Capability; 3] = [Capability::Kill, Capability::Setgid, Capability::Setuid];
/// Of the guardian, which the agent starts.
const OF_THE_GUARDIAN: [Capability; 2] = [Capability::IpcLock, Capability::SysNice];

/// Gives up everything but what an agent needs. Whoever calls this has done what takes more, and has one thread.
///
/// # Errors
/// Something of that is missing.
pub(super) fn keep(own: &Agent, user: &OsUser) -> Result<(), AgentError> {
    let needed = needed(own.guardian(), user.is_own());
    let missing = caps::missing(&needed)?;
    if !missing.is_empty() {
        return Err(AgentError::Capabilities(missing));
    }
    // Without a guardian that insists on them it still takes these where it can have them.
    let kept: Vec<_> = needed.into_iter().chain(OF_THE_GUARDIAN).collect();
    Ok(caps::keep(&kept)?)
}

fn needed(guardian: bool, same_user: bool) -> Vec<Capability> {
    let another = OF_ANOTHER_USER.into_iter().filter(|_| !same_user);
    let guardian = OF_THE_GUARDIAN.into_iter().filter(|_| guardian);
    ALWAYS.into_iter().chain(another).chain(guardian).collect()
}
