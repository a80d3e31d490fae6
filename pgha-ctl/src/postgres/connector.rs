//! What is needed to reach any server: the login, and TLS by the files as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use pgha_machine::NodeName;
use rustls::ClientConfig;

use super::tls::{TlsFileError, client_config};
use super::{PgError, Server};
use crate::config::{Config, Login, SslMode};

#[cfg(test)]
mod tests;

/// How sessions with servers are opened. Cheap to clone; clones share what was read of files.
#[derive(Clone, Debug)]
pub struct Connector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    login: Login,
    /// Nodes by address, whose certificates may name them.
    names: BTreeMap<IpAddr, NodeName>,
    /// TLS, with the files it was made of.
    tls: Mutex<Option<(Vec<Stamp>, Arc<ClientConfig>)>>,
    /// The servers of which it was told that sessions with them are not encrypted, though that is preferred;
    /// `None` where nobody is to be told.
    plain: Option<Mutex<BTreeSet<Server>>>,
}

/// A file as it was: its path, and when it was changed; `None` where that cannot be seen.
type Stamp = (PathBuf, Option<SystemTime>);

impl Connector {
    /// For the servers of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::made(config, None)
    }

    /// The same, and the log says of each server once if sessions with it are not encrypted although that is
    /// preferred.
    #[must_use]
    pub fn telling(config: &Config) -> Self {
        Self::made(config, Some(Mutex::default()))
    }

    fn made(config: &Config, plain: Option<Mutex<BTreeSet<Server>>>) -> Self {
        let names = config.nodes().iter().map(|node| (node.address, node.name.clone())).collect();
        let login = config.login().clone();
        Self(Arc::new(Inner { login, names, tls: Mutex::default(), plain }))
    }

    /// The login.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.0.login
    }

    /// Whether it is the same login, TLS included, with the same name of that server where names
    /// count: a session opened by one is as good as one opened by the other.
    #[must_use]
    pub fn is_like(&self, other: &Self, server: IpAddr) -> bool {
        let named = self.login().tls().mode() == SslMode::VerifyFull;
        let name = |of: &Self| of.0.names.get(&server).cloned();
        self.0.login == other.0.login && (!named || name(self) == name(other))
    }

    /// Notes that a session with a server is not encrypted, for it has no TLS, or TLS failed by this error.
    pub(super) fn goes_plain(&self, server: Server, failed: Option<&PgError>) {
        let Some(plain) = &self.0.plain else { return };
        if !plain.lock().unwrap_or_else(PoisonError::into_inner).insert(server) {
            return;
        }
        match failed {
            None => tracing::info!(
                "sessions with {server} are not encrypted: it has no TLS, and sslmode = \"prefer\" goes without"
            ),
            Some(error) => tracing::warn!(
                "sessions with {server} are not encrypted: sslmode = \"prefer\" goes without where TLS fails \
                 ({error}); sslmode = \"require\" does not"
            ),
        }
    }

    /// Notes that a session with a server is encrypted.
    pub(super) fn goes_encrypted(&self, server: Server) {
        if let Some(plain) = &self.0.plain {
            plain.lock().unwrap_or_else(PoisonError::into_inner).remove(&server);
        }
    }

    /// TLS, by the files as they are now: a certificate that was renewed in place needs no reload.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, TlsFileError> {
        let stamps = self.stamps();
        let mut known = self.0.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*known
            && *of == stamps
        {
            return Ok(config.clone());
        }
        let config = Arc::new(client_config(self.login().tls(), &self.0.names)?);
        *known = Some((stamps, config.clone()));
        Ok(config)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let tls = self.login().tls();
        let client = tls.client().map(|client| [&*client.certificate, &*client.key]);
        let files = tls.root().into_iter().chain(client.into_iter().flatten());
        let stamp = |path: &Path| {
            let changed = path.metadata().and_then(|metadata| metadata.modified()).ok();
            (path.to_owned(), changed)
        };
        files.map(stamp).collect()
    }
}
