//! Connecting to a process of the cluster.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::credentials::Credentials;
pub use crate::config::{Address, ParseAddressError};

/// How long a connection may take to be made, TLS included.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a connection may take to end that takes no request any more.
const FAREWELL: Duration = Duration::from_secs(1);

/// No connection came about.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum ConnectError {
    #[error("no connection to {to}: {source}; see that a controller runs there, with [api] listen")]
    Tcp { to: Address, source: io::Error },
    #[error("{to} is not trusted, or does not trust: {source}; {}", mend(.source, .to))]
    Tls { to: Address, source: io::Error },
    #[error("no connection to {to} within {} s; see that a controller runs there, with [api] listen, and that no firewall is between", PATIENCE.as_secs())]
    Timeout { to: Address },
    #[error("the certificate cannot be used: {0}")]
    Credentials(#[from] rustls::Error),
}

fn mend(error: &io::Error, to: &Address) -> String {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired)) = tls {
        return "the certificate shown to it has expired; where the authority is, run: pgha tls renew"
            .to_owned();
    }
    if let Some(rustls::Error::InvalidCertificate(
        NotValidForName | NotValidForNameContext { .. },
    )) = tls
    {
        return format!("issue its certificate again with --address or --dns for {}", to.host());
    }
    "see that both certificates are of this cluster's authority and have not expired".to_owned()
}

/// Connects, and proves to each side who the other is.
///
/// # Errors
/// When nobody listens, or one of the two is not who it must be.
pub async fn connect(
    to: &Address,
    credentials: &Credentials,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let connector = TlsConnector::from(Arc::new(credentials.client()?));
    let connecting = async {
        let stream = TcpStream::connect((to.host(), to.port()))
            .await
            .map_err(|source| ConnectError::Tcp { to: to.clone(), source })?;
        // Requests are small and waited for.
        let _ = stream.set_nodelay(true);
        connector
            .connect(to.server_name(), stream)
            .await
            .map_err(|source| ConnectError::Tls { to: to.clone(), source })
    };
    let connected = tokio::time::timeout(PATIENCE, connecting).await;
    connected.unwrap_or_else(|_| Err(ConnectError::Timeout { to: to.clone() }))
}

/// The refusal behind the error of a connection that was made: in TLS 1.3 a server judges its client's
/// certificate when the client is done, so the client hears of it where it reads first. Nothing that it sent was
/// read by anybody then.
#[must_use]
pub fn refusal(to: &Address, error: &(dyn Error + 'static)) -> Option<ConnectError> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error passes over what it holds when it is asked for its source.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = held.and_then(|held| held.downcast_ref()).or_else(|| error.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = tls
            && is_about_certificate(*alert)
        {
            let source = io::Error::other(rustls::Error::AlertReceived(*alert));
            return Some(ConnectError::Tls { to: to.clone(), source });
        }
        next = held.map_or_else(|| error.source(), |held| Some(held as &(dyn Error + 'static)));
    }
    None
}

/// What a connection ended with, where a request only learned that it did: the alert may come before the request
/// goes.
pub async fn cause(
    connection: JoinHandle<hyper::Result<()>>,
    learned: hyper::Error,
) -> hyper::Error {
    match tokio::time::timeout(FAREWELL, connection).await {
        Ok(Ok(Err(cause))) => cause,
        Ok(Ok(Ok(())) | Err(_)) | Err(_) => learned,
    }
}

/// Whether an alert says that a certificate is not accepted, or missing (RFC 8446, section 6.2).
const fn is_about_certificate(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}
