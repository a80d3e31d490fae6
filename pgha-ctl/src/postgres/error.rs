//! What goes wrong, and what that says of a server.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use nix::errno::Errno;
use pgha_machine::balancer::{Claim, Finding};
use rustls::CertificateError;
use tokio_postgres::error::SqlState;

use super::tls::{TlsFileError, VersionOne};
use crate::config::SslMode;
use crate::config::passfile::PassfileError;

/// A question that got no answer of use.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke before there was a session, or what answers is no PostgreSQL.
    #[error("before the session began: {0}")]
    Start(io::Error),
    /// PostgreSQL refuses a new session.
    #[error("{1}")]
    Refused(SqlState, String),
    /// PostgreSQL, or the way to it.
    #[error("{}", with_cause(.0))]
    Session(tokio_postgres::Error),
    /// Nothing came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The password file.
    #[error(transparent)]
    Password(#[from] PassfileError),
    /// The files that TLS needs.
    #[error(transparent)]
    TlsFile(#[from] TlsFileError),
    /// The server has no TLS.
    #[error(
        "the server has no TLS, which sslmode = \"{}\" requires; set ssl = on there, or choose \
         sslmode = \"prefer\"",
        .0.name()
    )]
    NoTls(SslMode),
    /// One of the two sides does not believe the other.
    #[error("TLS by sslmode = \"{}\": {}; {}", .0.name(), said(.1), mend(.1))]
    Handshake(SslMode, rustls::Error),
    /// The password is to be bound to a certificate that the server cannot bind it to.
    #[error(
        "{}; the server cannot bind a password to its certificate, as with one signed by Ed25519: issue it one \
         signed by ECDSA or RSA, or choose sslmode = \"verify-ca\", which needs no binding",
        with_cause(.0)
    )]
    Unbindable(tokio_postgres::Error),
    /// The answer lacks something.
    #[error("the answer has no usable {0}")]
    Answer(&'static str),
    /// The role sees walsenders but not what they do.
    #[error(
        "role {role} may not see the state of walsenders; on the primary: GRANT pg_monitor TO {}",
        quoted(.role)
    )]
    NotAMonitor {
        /// The role.
        role: String,
    },
    /// It is no primary.
    #[error("is in recovery, not a primary")]
    InRecovery(
        /// Whom it follows.
        Claim,
    ),
}

/// An error of PostgreSQL with what lies under it, which it does not say by itself.
fn with_cause(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A certificate's fault that has a name of its own here.
#[expect(clippy::wildcard_enum_match_arm, reason = "of many and growing cases one is told apart")]
fn own(error: &rustls::Error) -> Option<&VersionOne> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Why a handshake failed.
fn said(error: &rustls::Error) -> String {
    own(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// What to do about a failed handshake.
#[expect(clippy::wildcard_enum_match_arm, reason = "of many and growing cases few are told apart")]
fn mend(error: &rustls::Error) -> &'static str {
    match error {
        _ if own(error).is_some() => {
            "issue it again with subject alternative names (openssl x509 -req -extfile): openssl then makes \
             version 3"
        }
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "issue one that has the address or the name of its [[node]] as subject alternative \
                 name, or choose sslmode = \"verify-ca\""
            }
            // The latter where an authority of the same name has another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "add its authority to sslrootcert"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "issue the server a new one"
            }
            _ => "issue the server another one",
        },
        rustls::Error::AlertReceived(_) => {
            "the server refuses it: its log says why, often the client's certificate (sslcert, sslkey)"
        }
        _ => "see what the server logs, and its ssl_ settings",
    }
}

/// A name as SQL has it: as it is where that is a plain identifier, else in quotes.
pub(crate) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_plain = name.starts_with(plain) && name.chars().all(|c| plain(c) || c.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Errors of this node's own: out of descriptors, ports, memory, routes or permission.
const LOCAL: &[Errno] = &[
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::ENOBUFS,
    Errno::ENOMEM,
    Errno::EADDRNOTAVAIL,
    Errno::EACCES,
    Errno::EPERM,
    Errno::ENETUNREACH,
    // IPv6 is switched off here.
    Errno::EAFNOSUPPORT,
];

impl PgError {
    /// An error in a session, or while it began with TLS by this mode.
    pub(super) fn of(error: tokio_postgres::Error, mode: SslMode) -> Self {
        let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match io.and_then(of_rustls) {
            Some(tls) => Self::Handshake(mode, tls),
            None if cannot_bind(&error) => Self::Unbindable(error),
            None => Self::Session(error),
        }
    }

    /// An error while a session began.
    pub(super) fn at_start(error: io::Error, mode: SslMode) -> Self {
        match of_rustls(&error) {
            Some(tls) => Self::Handshake(mode, tls),
            None => Self::Start(error),
        }
    }

    /// The code PostgreSQL gives, where it answered with an error that is no case of its own here.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(state, _) => Some(state),
            Self::Session(error) => error.code(),
            Self::Connect(_)
            | Self::Start(_)
            | Self::Timeout(_)
            | Self::Password(_)
            | Self::TlsFile(_)
            | Self::NoTls(_)
            | Self::Handshake(..)
            | Self::Unbindable(_)
            | Self::Answer(_)
            | Self::NotAMonitor { .. }
            | Self::InRecovery(_) => None,
        }
    }

    /// Whether PostgreSQL answered and refuses this login for good: wrong user, password, database
    /// or `pg_hba.conf` (SQLSTATE classes 28 and 3D), or no agreement on TLS.
    #[must_use]
    pub fn is_login_refused(&self) -> bool {
        if let Some(state) = self.sqlstate() {
            return state.code().starts_with("28") || state.code().starts_with("3D");
        }
        match self {
            // A password is asked for, and none is known.
            Self::Session(error) => {
                error.source().is_some_and(|cause| cause.to_string().contains("password"))
            }
            Self::NoTls(_) | Self::Handshake(..) | Self::Unbindable(_) => true,
            Self::Connect(_)
            | Self::Start(_)
            | Self::Refused(..)
            | Self::Timeout(_)
            | Self::Password(_)
            | Self::TlsFile(_)
            | Self::Answer(_)
            | Self::NotAMonitor { .. }
            | Self::InRecovery(_) => false,
        }
    }

    /// Whether a server that refuses this may take the same login without TLS, or with it: no line of
    /// its `pg_hba.conf` fits.
    pub(super) fn may_depend_on_tls(&self) -> bool {
        matches!(self, Self::Handshake(..))
            || self.sqlstate() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    }

    /// What a check that ended so says of the server.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let told = self.to_string();
        if self.is_login_refused() {
            return Finding::LoginRefused(told);
        }
        match self.sqlstate() {
            Some(&SqlState::CANNOT_CONNECT_NOW) => return Finding::NotAccepting,
            // Sent to the sessions of a server that is being stopped: the next check tells how it
            // ended.
            Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN) => {
                return Finding::Silent(told);
            }
            Some(_) => return Finding::Answered(told),
            None => {}
        }
        match self {
            Self::Connect(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ECONNREFUSED) => Finding::Refused,
                Some(errno) if LOCAL.contains(&errno) => Finding::Undecided(told),
                _ => Finding::Silent(told),
            },
            Self::Start(_) | Self::Session(_) | Self::Timeout(_) => Finding::Silent(told),
            Self::Password(_) | Self::TlsFile(_) => Finding::Undecided(told),
            Self::Refused(..)
            | Self::NoTls(_)
            | Self::Handshake(..)
            | Self::Unbindable(_)
            | Self::Answer(_)
            | Self::NotAMonitor { .. }
            | Self::InRecovery(_) => Finding::Answered(told),
        }
    }
}

/// Whether a server failed at the hash of its own certificate: `be_tls_get_certificate_hash` of PostgreSQL, whose
/// messages are of use to nobody else and in no other language.
fn cannot_bind(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|told| {
        *told.code() == SqlState::INTERNAL_ERROR
            && (told.message().starts_with("could not find digest for NID")
                || told.message() == "could not determine server certificate signature algorithm")
    })
}

fn of_rustls(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

#[cfg(test)]
mod tests;
