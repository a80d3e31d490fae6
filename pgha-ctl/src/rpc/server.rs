//! Listening: whoever is slow, silent or numerous takes a place of his own and nobody else's.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::credentials::{Credentials, CredentialsError};
use super::identity::{Holder, Role};
use super::places::{Peer, Places};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the head of a request may take to come, and a kept connection may stay without one.
const HEAD: Duration = Duration::from_secs(30);
/// How long a connection of somebody without a certificate lasts, whatever he asks.
const STRANGER: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const HEAD_SIZE: usize = 16 * 1024;
/// How long a client that was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// TLS handshakes at once, and of one source.
const HANDSHAKES: (usize, usize) = (128, 16);
/// Connections at once of those without a certificate, and of one source.
const STRANGERS: (usize, usize) = (64, 16);
/// Connections at once of those with one and of local ones, and of one of them.
const KNOWN: (usize, usize) = (512, 64);

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

/// Serves those who come over TCP, until the task is aborted; connections end with it.
pub async fn serve_tcp(listener: TcpListener, keys: Arc<Keys>, router: Router) {
    let (room, handshakes) = (Room::new(router), Places::new(HANDSHAKES.0, HANDSHAKES.1));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let mut place = handshakes.take(from.ip().into());
        let acceptor = TlsAcceptor::from(keys.config());
        let room = room.clone();
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let handshake = tokio::select! {
                ended = tokio::time::timeout(HANDSHAKE, shake(acceptor, stream)) => ended,
                () = place.lost() => {
                    return tracing::debug!(%from, "a TLS handshake gave its place to another");
                }
            };
            drop(place);
            match handshake {
                Ok(Ok(stream)) => {
                    let caller = holder(&stream);
                    room.serve(stream, caller, from.ip().into()).await;
                }
                Ok(Err(error)) => tracing::debug!(%from, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
            }
        });
    }
}

/// A handshake. A client that is refused has sent its request by then, as TLS 1.3 lets it: closed with that
/// unread, the connection would be reset, and the alert, which says why, lost on the way.
async fn shake(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let (error, mut stream) = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => return Ok(stream),
        Err(failed) => failed,
    };
    let farewell = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    Err(error)
}

/// Serves those who come over a Unix socket, until the task is aborted; connections end with it.
pub async fn serve_unix(listener: UnixListener, router: Router) {
    let room = Room::new(router);
    let own = nix::unistd::geteuid().as_raw();
    let own_name = nix::unistd::User::from_uid(own.into()).ok().flatten();
    let own_name = own_name.map_or_else(|| own.to_string(), |user| user.name);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        // The number of no user, where the kernel does not tell.
        let user = stream.peer_cred().map_or(u32::MAX, |credentials| credentials.uid());
        let caller = match user {
            0 => Caller::Owner("root".to_owned()),
            user if user == own => Caller::Owner(own_name.clone()),
            _ => Caller::OtherUser,
        };
        let room = room.clone();
        connections.spawn(async move { room.serve(stream, caller, Peer::User(user)).await });
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

/// What is served, and how many may be at it.
#[derive(Clone, Debug)]
struct Room {
    strangers: Places,
    known: Places,
    router: Router,
}

impl Room {
    fn new(router: Router) -> Self {
        let [strangers, known] = [STRANGERS, KNOWN].map(|(most, of_one)| Places::new(most, of_one));
        Self { strangers, known, router }
    }

    /// Serves one connection to its end.
    async fn serve<S>(&self, stream: S, caller: Caller, from: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (name, router) = (caller.name().to_owned(), self.router.clone());
        let ended = match caller {
            Caller::Nobody | Caller::OtherUser => {
                let mut place = self.strangers.take(from);
                let served = tokio::time::timeout(STRANGER, converse(stream, caller, router));
                tokio::select! {
                    ended = served => ended.unwrap_or(Ok(())),
                    () = place.lost() => {
                        return tracing::debug!("a connection of {name} gave its place to another");
                    }
                }
            }
            Caller::Owner(_) | Caller::Holder(_) => {
                if let Some(_place) = self.known.try_take(Peer::Known(name.clone())) {
                    converse(stream, caller, router).await
                } else {
                    tracing::debug!("a connection of {name} found no place");
                    let told = converse(stream, caller, full(&name));
                    tokio::time::timeout(FAREWELL, told).await.unwrap_or(Ok(()))
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection of {name} broke");
        }
    }
}

/// What somebody is told who has too many connections.
fn full(name: &str) -> Router {
    let (most, of_one) = KNOWN;
    let error = format!(
        "{name} has {of_one} connections open already, or all together have {most}; close some, and ask over \
         one that is kept"
    );
    let body = axum::Json(serde_json::json!({ "error": error }));
    Router::new()
        .fallback(move || std::future::ready((StatusCode::TOO_MANY_REQUESTS, body.clone())))
}

/// One connection, to its end.
async fn converse<S>(stream: S, caller: Caller, router: Router) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller.clone());
        router.call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
