//! Listening: whoever is slow, silent or numerous takes a place of his own and nobody else's.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::credentials::{Credentials, CredentialsError};
use super::identity::{Holder, Role};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the head of a request may take to come, and a kept connection may stay without one.
const HEAD: Duration = Duration::from_secs(30);
/// How long a connection of somebody without a certificate lasts, whatever he asks.
const STRANGER: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const HEAD_SIZE: usize = 16 * 1024;
/// Handshakes under way at once; who comes then waits in the kernel's queue.
const HANDSHAKES: usize = 32;
/// Connections at once of those without a certificate.
const STRANGERS: usize = 16;
/// Connections at once of those with one, and of local ones.
const KNOWN: usize = 128;

/// Who asks. Every request carries it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody over TCP without a certificate.
    Nobody,
    /// A local user other than those below.
    OtherUser,
    /// A local user who is root or runs this process.
    Owner(String),
    /// Somebody with a certificate of the cluster.
    Holder(Holder),
}

impl Caller {
    /// Whose word an order is.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Nobody => "nobody",
            Self::OtherUser => "another user",
            Self::Owner(name) => name,
            Self::Holder(holder) => &holder.name,
        }
    }

    /// Whether he may steer.
    #[must_use]
    pub fn steers(&self, now: SystemTime) -> bool {
        match self {
            Self::Nobody | Self::OtherUser => false,
            Self::Owner(_) => true,
            Self::Holder(holder) => holder.role == Some(Role::Operator) && holder.until >= now,
        }
    }

    /// Whether he may read.
    #[must_use]
    pub fn reads(&self, now: SystemTime) -> bool {
        match self {
            Self::Nobody | Self::OtherUser => false,
            Self::Owner(_) => true,
            Self::Holder(holder) => holder.role.is_some() && holder.until >= now,
        }
    }
}

/// The credentials of a server. They follow their files.
#[derive(Debug)]
pub struct Keys {
    directory: PathBuf,
    current: Mutex<(Credentials, Arc<ServerConfig>)>,
}

impl Keys {
    /// Reads them.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(directory: &Path) -> Result<Self, CredentialsError> {
        let current = Mutex::new(read(directory)?);
        Ok(Self { directory: directory.to_owned(), current })
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads the files again if they have changed; says whether they had. Connections made so far stay.
    ///
    /// # Errors
    /// When they cannot be used: then those read before stay in force.
    pub fn refresh(&self) -> Result<bool, CredentialsError> {
        if !self.credentials().changed(&self.directory)? {
            return Ok(false);
        }
        *self.lock() = read(&self.directory)?;
        Ok(true)
    }

    /// Those in force.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.lock().0.clone()
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Credentials, Arc<ServerConfig>)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(directory: &Path) -> Result<(Credentials, Arc<ServerConfig>), CredentialsError> {
    let credentials = Credentials::load(directory)?;
    let config = Arc::new(credentials.server(directory)?);
    Ok((credentials, config))
}

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("[api] listen: {address} cannot be listened on ({source}); {}", mend(.source))]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

fn mend(error: &io::Error) -> &'static str {
    let mends = [
        (io::ErrorKind::AddrInUse, "stop whoever has that port, or choose another"),
        (io::ErrorKind::AddrNotAvailable, "give an address that this node has"),
        (io::ErrorKind::PermissionDenied, "choose a port above 1023"),
    ];
    let found = mends.into_iter().find(|(kind, _)| *kind == error.kind());
    found.map_or("choose another address or port", |(_, mend)| mend)
}

/// Opens a port.
///
/// # Errors
/// When it cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Serves those who come over TCP, until the task is aborted.
pub async fn serve_tcp(listener: TcpListener, keys: Arc<Keys>, router: Router) {
    let places = Places::default();
    loop {
        let handshaking = place(&places.handshakes).await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(keys.config());
        let (places, router) = (places.clone(), router.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(handshaking);
            match handshake {
                Ok(Ok(stream)) => {
                    let caller = holder(&stream);
                    serve(stream, caller, &places, router).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
}

/// Serves those who come over a Unix socket, until the task is aborted.
pub async fn serve_unix(listener: UnixListener, router: Router) {
    let places = Places::default();
    let own = nix::unistd::geteuid().as_raw();
    let own_name = nix::unistd::User::from_uid(own.into()).ok().flatten();
    let own_name = own_name.map_or_else(|| own.to_string(), |user| user.name);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let caller = match stream.peer_cred().map(|credentials| credentials.uid()) {
            Ok(0) => Caller::Owner("root".to_owned()),
            Ok(uid) if uid == own => Caller::Owner(own_name.clone()),
            _ => Caller::OtherUser,
        };
        let (places, router) = (places.clone(), router.clone());
        tokio::spawn(async move { serve(stream, caller, &places, router).await });
    }
}

/// Without a file descriptor to spare, accepting again at once would only burn the processor.
async fn pause_after(error: &io::Error) {
    tracing::warn!("a connection to the API could not be taken: {error}");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn holder(stream: &TlsStream<TcpStream>) -> Caller {
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some(certificate) = shown else { return Caller::Nobody };
    match Holder::of(certificate) {
        Ok(holder) => Caller::Holder(holder),
        Err(error) => {
            tracing::warn!("somebody's certificate is of nobody: {error}");
            Caller::Nobody
        }
    }
}

#[derive(Clone, Debug)]
struct Places {
    handshakes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { handshakes: places(HANDSHAKES), strangers: places(STRANGERS), known: places(KNOWN) }
    }
}

async fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).acquire_owned().await.ok()
}

/// Serves one connection to its end. Where there is no place it ends at once.
async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    caller: Caller,
    places: &Places,
    router: Router,
) {
    let stranger = matches!(caller, Caller::Nobody | Caller::OtherUser);
    let kind = if stranger { &places.strangers } else { &places.known };
    let Ok(_place) = Arc::clone(kind).try_acquire_owned() else {
        tracing::debug!("a connection of {} found no place", caller.name());
        return;
    };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service);
    let ended = if stranger {
        tokio::time::timeout(STRANGER, connection).await.unwrap_or(Ok(()))
    } else {
        connection.await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the API broke");
    }
}
