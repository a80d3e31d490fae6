//! Where an etcd is, and how to get in.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::passfile::Password;
use super::private_file::{self, PrivateFileError};

/// A member of etcd, as its clients reach it: `https://10.0.0.31:2379`, `https://[fd00::31]:2379` or
/// `https://etcd1:2379`; `http` without TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    tls: bool,
    /// An IP address, without brackets, or a DNS name.
    host: String,
    port: u16,
}

impl Endpoint {
    /// Whether it speaks TLS.
    #[must_use]
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// An IP address, without brackets, or a DNS name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether what goes there leaves this node unprotected.
    pub(super) fn is_in_clear(&self) -> bool {
        let here = self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        !self.tls && !here
    }

    /// Host and port, as HTTP names them.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// A text that is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write scheme, host and port, such as \"https://10.0.0.31:2379\"")]
pub struct ParseEndpointError;

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(ParseEndpointError)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(ParseEndpointError),
        };
        // Tools write it with and without.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or(ParseEndpointError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ParseEndpointError)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok().then_some(address),
            None => is_name(host).then_some(host),
        };
        Ok(Self { tls, host: host.ok_or(ParseEndpointError)?.to_owned(), port })
    }
}

/// A DNS name, or an IPv4 address (RFC 1123, section 2.1).
fn is_name(text: &str) -> bool {
    let legal = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    text.split('.').all(legal)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// An etcd to keep records in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) tls: Option<EtcdTls>,
    pub(super) login: Option<EtcdLogin>,
    pub(super) timeout: Duration,
    pub(super) seen: PathBuf,
}

/// How members prove who they are, and pgha to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdTls {
    /// PEM: the authorities that are trusted.
    pub ca: PathBuf,
    /// PEM: what is shown to members that ask, and its key.
    pub shown: Option<(PathBuf, PathBuf)>,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdLogin {
    /// Its name.
    pub user: String,
    /// The file with its password, for its owner alone.
    pub password_file: PathBuf,
}

impl EtcdLogin {
    /// Its password: the first line of the file.
    ///
    /// # Errors
    /// When the file cannot be read, or others may read it too.
    pub fn password(&self) -> Result<Password, PrivateFileError> {
        let content = private_file::read(&self.password_file)?;
        let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(Password::new(line.strip_suffix(b"\r").unwrap_or(line).to_owned()))
    }
}

impl Etcd {
    /// Its members, at least one, in the order of the file; all with TLS or none.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// There where the endpoints speak TLS.
    #[must_use]
    pub const fn tls(&self) -> Option<&EtcdTls> {
        self.tls.as_ref()
    }

    /// Who logs in, where etcd wants that.
    #[must_use]
    pub const fn login(&self) -> Option<&EtcdLogin> {
        self.login.as_ref()
    }

    /// How long a member may take for one answer; then another is asked.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Each key, and whether its value is another there.
    fn compared(&self, other: &Self) -> [(&'static str, bool); 8] {
        let ca = |of: &Self| of.tls.as_ref().map(|tls| tls.ca.clone());
        let shown = |of: &Self| of.tls.as_ref().and_then(|tls| tls.shown.clone()).unzip();
        let login = |of: &Self| of.login.clone().map(|of| (of.user, of.password_file)).unzip();
        let ((old_cert, old_key), (cert, key)) = (shown(self), shown(other));
        let ((old_user, old_file), (user, file)) = (login(self), login(other));
        [
            ("store.endpoints", self.endpoints != other.endpoints),
            ("store.ca", ca(self) != ca(other)),
            ("store.cert", old_cert != cert),
            ("store.key", old_key != key),
            ("store.user", old_user != user),
            ("store.password_file", old_file != file),
            ("store.timeout", self.timeout != other.timeout),
            ("store.path", self.seen != other.seen),
        ]
    }

    /// The file that remembers what was seen of it.
    #[must_use]
    pub fn seen(&self) -> &Path {
        &self.seen
    }
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// A file of the controller.
    Local(PathBuf),
    /// An etcd.
    Etcd(Etcd),
}

impl StorePlace {
    /// Its kind, as `store.kind` names it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Etcd(_) => "etcd",
        }
    }

    /// The file that is kept on this node.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Local(path) => path,
            Self::Etcd(etcd) => &etcd.seen,
        }
    }

    /// The members; none of a local store.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Local(_) => &[],
            Self::Etcd(etcd) => &etcd.endpoints,
        }
    }
}

impl StorePlace {
    /// The keys whose values are others there.
    pub(super) fn differs_in(&self, other: &Self) -> Vec<&'static str> {
        let differ = match (self, other) {
            (Self::Local(old), Self::Local(new)) => vec![("store.path", old != new)],
            (Self::Etcd(old), Self::Etcd(new)) => old.compared(new).to_vec(),
            (Self::Local(_), Self::Etcd(_)) | (Self::Etcd(_), Self::Local(_)) => {
                vec![("store.kind", true)]
            }
        };
        differ.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Etcd(Etcd { endpoints, .. }) => {
                let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
                f.write_str(&endpoints.join(", "))
            }
        }
    }
}
