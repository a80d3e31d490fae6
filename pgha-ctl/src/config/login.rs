use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::passfile::{self, PassfileError, Password, Wanted};

/// How to log in to PostgreSQL. It holds no secret: passwords and keys are read when they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub(super) user: String,
    pub(super) dbname: String,
    pub(super) passfile: Option<PathBuf>,
    pub(super) tls: Tls,
}

/// How much TLS protects sessions, in libpq's words (PostgreSQL documentation, "SSL Support", table
/// "SSL Mode Descriptions"), from little to much. `allow` is left out: it protects from nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server takes it.
    Prefer,
    /// TLS, with whomever.
    Require,
    /// TLS with a server whose certificate a trusted authority signed.
    VerifyCa,
    /// The same, and the certificate names the server.
    VerifyFull,
}

impl SslMode {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// TLS with PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub(super) mode: SslMode,
    pub(super) root: Option<PathBuf>,
    pub(super) client: Option<ClientCertificate>,
}

/// What a client shows to servers that ask who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM: the certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

impl Tls {
    /// How much it protects. `require` with trusted authorities is `verify-ca`, as libpq has it
    /// (PostgreSQL documentation, "Client Verification of Server Certificates").
    #[must_use]
    pub const fn mode(&self) -> SslMode {
        let verifies = matches!(self.mode, SslMode::Require) && self.root.is_some();
        if verifies { SslMode::VerifyCa } else { self.mode }
    }

    /// Whether only a certificate is believed that a trusted authority signed.
    #[must_use]
    pub fn verifies(&self) -> bool {
        self.mode() >= SslMode::VerifyCa && self.root.is_some()
    }

    /// PEM: the trusted authorities; there from [`SslMode::VerifyCa`] on.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// What is shown to servers that ask.
    #[must_use]
    pub const fn client(&self) -> Option<&ClientCertificate> {
        self.client.as_ref()
    }
}

impl Login {
    /// The role.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// The password file: that of the configuration, else the one `PGPASSFILE` names.
    #[must_use]
    pub fn passfile(&self) -> Option<PathBuf> {
        let named = || env::var_os("PGPASSFILE").filter(|path| !path.is_empty());
        self.passfile.clone().or_else(|| named().map(PathBuf::from))
    }

    /// TLS.
    #[must_use]
    pub const fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The password for the server at `host:port`: the environment variable `PGPASSWORD`, else the first
    /// match in the password file, as libpq has it (PostgreSQL documentation, "The Password File": it is
    /// used if no password has been specified otherwise). The file is read each time, so an edit needs no
    /// reload.
    ///
    /// # Errors
    /// The password file cannot be read, or others than its owner may read it.
    pub fn password_for(&self, host: IpAddr, port: u16) -> Result<Option<Password>, PassfileError> {
        use std::os::unix::ffi::OsStringExt as _;
        let given = env::var_os("PGPASSWORD").filter(|value| !value.is_empty());
        self.password_of(given.map(|value| Password::new(value.into_vec())), host, port)
    }

    pub(super) fn password_of(
        &self,
        given: Option<Password>,
        host: IpAddr,
        port: u16,
    ) -> Result<Option<Password>, PassfileError> {
        match self.passfile() {
            Some(path) if given.is_none() => {
                let wanted = Wanted {
                    host: &host.to_string(),
                    port: &port.to_string(),
                    dbname: &self.dbname,
                    user: &self.user,
                };
                Ok(passfile::lookup(&passfile::read(&path)?, &wanted))
            }
            Some(_) | None => Ok(given),
        }
    }

    pub(super) fn check(&self) -> Result<(), PassfileError> {
        self.passfile().map_or(Ok(()), |path| passfile::read(&path).map(drop))
    }
}
