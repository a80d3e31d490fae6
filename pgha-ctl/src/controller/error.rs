use std::net::{IpAddr, SocketAddr};

use super::api;
use crate::bpf::xdp::XdpError;
use crate::config::passfile::PassfileError;
use crate::config::{ConfigErrors, RestartNeeded};
use crate::net::{NetError, caps};
use crate::postgres::{PgError, TlsFileError};
use crate::rpc::credentials::CredentialsError;
use crate::rpc::server::ListenError;

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
        caps::names(.0)
    )]
    Capabilities(Vec<caps::Capability>),
    /// The capabilities are not known.
    #[error(transparent)]
    Caps(#[from] caps::CapsError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The interfaces.
    #[error(transparent)]
    Interfaces(#[from] InterfacesError),
    /// The data plane.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// PostgreSQL refuses the login.
    #[error(
        "PostgreSQL at {server} refuses user {user}: {source}; correct [postgres] user, dbname, \
         passfile and the ssl keys, or pg_hba.conf there"
    )]
    Login {
        /// Where.
        server: SocketAddr,
        /// Who.
        user: String,
        /// What it says.
        source: Box<PgError>,
    },
    /// No password can be looked up.
    #[error("[postgres] passfile: {0}")]
    Passfile(PassfileError),
    /// The files that TLS needs.
    #[error("[postgres] {0}")]
    TlsFile(TlsFileError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] api::SocketError),
    /// What the API shows its clients.
    #[error("[api] tls: {0}")]
    Credentials(#[from] CredentialsError),
    /// The API's port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate names no controller.
    #[error(
        "[api] tls: the certificate is of {0}, which is no [[controller]]; issue one for the name that this one has \
         there: pgha tls issue"
    )]
    NoController(String),
    /// The kernel has no timer.
    #[error("the kernel has no timer for leases: {0}")]
    Timer(std::io::Error),
    /// The runtime.
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
}

impl From<crate::bpf::PinError> for ControllerError {
    fn from(error: crate::bpf::PinError) -> Self {
        Self::Xdp(error.into())
    }
}

/// Why the director's interfaces cannot serve the VIPs.
#[derive(Debug, thiserror::Error)]
pub enum InterfacesError {
    /// One of them.
    #[error(transparent)]
    Net(#[from] NetError),
    /// All of them.
    #[error(
        "VIP {vip} lies in no subnet of the interfaces {interfaces}; choose a VIP in one of their \
         subnets, or name the interface that has its subnet in [director] too"
    )]
    VipOutside {
        /// Which.
        vip: IpAddr,
        /// Their names.
        interfaces: String,
    },
}

/// Why a new configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Interfaces(#[from] InterfacesError),
    #[error("[postgres] {0}")]
    TlsFile(#[from] TlsFileError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Restart(Vec<RestartNeeded>),
}
