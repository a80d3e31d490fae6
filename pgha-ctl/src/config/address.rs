use std::fmt;
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// Host and port of a process: `10.0.0.21:7432`, `[fd00::21]:7432` or `lb1:7432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// An IP address, without brackets, or a DNS name.
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Address {
    /// An IP address, without brackets, or a DNS name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What its certificate must be good for.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

/// A text that names no process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host with a port; write it as 10.0.0.21:7432, [fd00::21]:7432 or lb1:7432")]
pub struct ParseAddressError(String);

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            // Without brackets the last part of an IPv6 address would pass for a port.
            if bare.is_none() && host.contains(':') {
                return None;
            }
            let host = bare.unwrap_or(host).to_owned();
            let port = port.parse().ok().filter(|port| *port != 0)?;
            let name = ServerName::try_from(host.clone()).ok()?;
            Some(Self { host, port, name })
        };
        parse().ok_or_else(|| ParseAddressError(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
