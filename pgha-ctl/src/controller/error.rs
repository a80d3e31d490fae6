use std::net::Ipv4Addr;

use super::api;
use crate::bpf::xdp::XdpError;
use crate::config::passfile::PassfileError;
use crate::config::{ConfigErrors, RestartNeeded};
use crate::net::{NetError, caps};
use crate::postgres::PgError;

/// Why a controller did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The process may not do what it must.
    #[error(
        "missing {}: run the controller as root, or give it these capabilities (systemd: \
         AmbientCapabilities=)",
        names(.0)
    )]
    Capabilities(Vec<caps::Capability>),
    /// The capabilities are not known.
    #[error(transparent)]
    Caps(#[from] caps::CapsError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The data plane.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// PostgreSQL refuses the login.
    #[error(
        "PostgreSQL at {host}:{port} refuses user {user}: {source}; correct [postgres] user, dbname \
         and passfile, or pg_hba.conf there"
    )]
    Login {
        /// Where.
        host: Ipv4Addr,
        /// Its port.
        port: u16,
        /// Who.
        user: String,
        /// What it says.
        source: Box<PgError>,
    },
    /// No password can be looked up.
    #[error("[postgres] passfile: {0}")]
    Passfile(PassfileError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] api::SocketError),
    /// The runtime.
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
}

fn names(capabilities: &[caps::Capability]) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl From<crate::bpf::PinError> for ControllerError {
    fn from(error: crate::bpf::PinError) -> Self {
        Self::Xdp(error.into())
    }
}

/// Why a new configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Restart(Vec<RestartNeeded>),
}
