use std::path::PathBuf;

use super::address::NotReleased;
use super::guard::Unguarded;
use super::kept::KeptError;
use super::origin::OriginError;
use crate::bpf::PinError;
use crate::bpf::gate::GateError;
use crate::config::ConfigErrors;
use crate::net::{NetError, caps};
use crate::postgres::server::ServerError;
use crate::rpc::credentials::CredentialsError;
use crate::rpc::server::ListenError;

/// Why an agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum AgentError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{} has no [agent]; add it, with node, data and bin", .file.display())]
    NoAgent { file: PathBuf },
    #[error(
        "[api] tls: the certificate is of {found}, and [agent] node is {node}; issue one for that name: pgha tls issue"
    )]
    OtherName { node: String, found: String },
    #[error("[api] tls: {0}")]
    Credentials(#[from] CredentialsError),
    #[error(
        "missing {}: run the agent as root, or by the unit that comes with pgha (systemd: CapabilityBoundingSet=, and \
         AmbientCapabilities= for another user)",
        caps::names(.0)
    )]
    Capabilities(Vec<caps::Capability>),
    #[error(transparent)]
    Caps(#[from] caps::CapsError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Address(#[from] NotReleased),
    #[error(transparent)]
    Pins(#[from] PinError),
    #[error(transparent)]
    Server(Box<ServerError>),
    #[error("the kernel has no timer for the lease: {0}")]
    Timer(std::io::Error),
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
    #[error("the kernel has no random numbers")]
    Random,
    #[error(
        "the data directory of {node} belongs to another cluster: its system identifier is {ours}, that of the cluster \
         in the store is {theirs}. PostgreSQL is ended here, and nothing was changed; correct [agent] data or cluster, \
         or move the directory away and make one by pg_basebackup"
    )]
    OtherCluster { node: String, ours: u64, theirs: u64 },
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    #[error(transparent)]
    Server(Box<ServerError>),
    #[error(transparent)]
    Gate(Box<GateError>),
    #[error(transparent)]
    Unguarded(#[from] Unguarded),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error(transparent)]
    Address(#[from] NotReleased),
    #[error("PostgreSQL does not run")]
    Down,
    #[error(
        "start {start} listens at {addresses} by sockets of another cgroup, which its lease gate does not hold; it is \
         started anew"
    )]
    Outside { start: u64, addresses: String },
    #[error("there is no lease")]
    NoLease,
    #[error("the lease has ended, and the gate is closed")]
    Expired,
}

// Both are large, and rare.
impl From<ServerError> for AgentError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<ServerError> for WorkError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<GateError> for WorkError {
    fn from(error: GateError) -> Self {
        Self::Gate(Box::new(error))
    }
}
