//! Sessions: how they begin, what is asked in them, and that they end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode as Protection, SslNegotiation};
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_rustls::TlsConnector;

use super::encrypted::Handshake;
use super::wire::{Welcome, ask_for_tls, knock};
use super::{Connector, PgError, Report, Server, within};
use crate::config::SslMode;
use crate::config::passfile::Password;

#[cfg(test)]
mod tests;

const QUESTION: &str = include_str!("server.sql");

/// How long a kept session is idle before the other side's host is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// An open session; its end can be waited for.
#[derive(Debug)]
pub struct Session {
    connector: Connector,
    server: Server,
    client: Client,
    connection: JoinHandle<()>,
    /// How [`Session::knock`] does it.
    knocks_encrypted: AtomicBool,
}

impl Session {
    /// Logs in.
    ///
    /// # Errors
    /// Whatever keeps it from that within `timeout`.
    pub async fn open(
        connector: &Connector,
        server: Server,
        timeout: Duration,
    ) -> Result<Self, PgError> {
        // What is missing here is known before anybody is asked.
        let password = connector.login().password_for(server.ip(), server.port())?;
        within(timeout, Opening { connector, server, timeout, password }.log_in()).await?
    }

    /// Returns when the session is over. May be called again after it was dropped midway.
    pub async fn ended(&mut self) {
        let _ = (&mut self.connection).await;
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.connection.is_finished()
    }

    /// Whether it was opened as this one would open it.
    #[must_use]
    pub fn is_of(&self, connector: &Connector) -> bool {
        self.connector.is_like(connector, self.server.ip())
    }

    fn mode(&self) -> SslMode {
        self.connector.login().tls().mode()
    }

    /// Sees how the server meets a new session, without logging in: that costs neither side much,
    /// and only it shows that a client would get one. A server in a smart shutdown serves the
    /// sessions it has and takes no other (PostgreSQL documentation, "Shutting Down the Server").
    ///
    /// Where TLS is only preferred it goes without, as long as the server does not mind.
    ///
    /// # Errors
    /// Whatever a client would meet, within `timeout`.
    pub(super) async fn knock(&self, timeout: Duration) -> Result<(), PgError> {
        let encrypted = self.knocks_encrypted.load(Ordering::Relaxed);
        match within(timeout, knock_once(&self.connector, self.server, encrypted)).await? {
            // It has a process for the session, and no line for it without TLS in pg_hba.conf.
            Err(error) if self.mode() == SslMode::Prefer && error.may_depend_on_tls() => {
                self.knocks_encrypted.store(true, Ordering::Relaxed);
                Ok(())
            }
            knocked => knocked,
        }
    }

    async fn report(&self) -> Result<Report, PgError> {
        Report::read(self.rows(QUESTION).await?.iter())
    }

    /// The rows that a statement yields.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, PgError> {
        let answered = self.client.simple_query(sql).await;
        let messages = answered.map_err(|error| PgError::of(error, self.mode()))?;
        let rows = messages.into_iter().filter_map(|message| {
            if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None }
        });
        Ok(rows.collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Asks a server what it is and who streams from it: one query.
///
/// # Errors
/// Whatever PostgreSQL says, no answer within `timeout`, and one without use.
pub async fn ask(session: &Session, timeout: Duration) -> Result<Report, PgError> {
    within(timeout, session.report()).await?
}

/// A session that is to begin.
struct Opening<'c> {
    connector: &'c Connector,
    server: Server,
    timeout: Duration,
    password: Option<Password>,
}

impl Opening<'_> {
    async fn log_in(self) -> Result<Session, PgError> {
        let mode = self.connector.login().tls().mode();
        let mut stream = connect(self.server).await?;
        if mode == SslMode::Disable {
            return self.plain(stream).await;
        }
        let taken = ask_for_tls(&mut stream).await;
        match (taken.map_err(|error| PgError::at_start(error, mode))?, mode) {
            (false, SslMode::Prefer) => {
                let opened = self.plain(stream).await?;
                self.connector.goes_plain(self.server, None);
                Ok(opened)
            }
            (false, _) => Err(PgError::NoTls(mode)),
            (true, SslMode::Prefer) => match self.encrypted(stream).await {
                Ok(opened) => {
                    self.connector.goes_encrypted(self.server);
                    Ok(opened)
                }
                // As libpq does: a server may take some clients only without.
                Err(error) if error.may_depend_on_tls() => {
                    match self.plain(connect(self.server).await?).await {
                        Ok(opened) => {
                            self.connector.goes_plain(self.server, Some(&error));
                            Ok(opened)
                        }
                        Err(_) => Err(error),
                    }
                }
                Err(error) => Err(error),
            },
            (true, _) => self.encrypted(stream).await,
        }
    }

    async fn plain(&self, stream: TcpStream) -> Result<Session, PgError> {
        self.on(stream, Protection::Disable, NoTls).await
    }

    async fn encrypted(&self, stream: TcpStream) -> Result<Session, PgError> {
        let tls = Handshake {
            config: self.connector.tls()?,
            server: self.server.ip().into(),
            verifies: self.connector.login().tls().verifies(),
        };
        // The server has been asked for TLS already, so that its refusal is known for what it is.
        self.on(stream, Protection::Require, tls).await
    }

    async fn on<T>(
        &self,
        stream: TcpStream,
        protection: Protection,
        tls: T,
    ) -> Result<Session, PgError>
    where
        T: TlsConnect<TcpStream>,
        T::Stream: Send + 'static,
    {
        let login = self.connector.login();
        let mode = login.tls().mode();
        keep_alive(&stream, self.timeout).map_err(PgError::Connect)?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(login.user())
            .dbname(login.dbname())
            .application_name("pgha")
            .ssl_mode(protection)
            .ssl_negotiation(SslNegotiation::Direct);
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        let opened = config.connect_raw(stream, tls).await;
        let (client, connection) = opened.map_err(|error| PgError::of(error, mode))?;
        // How the connection ends is of no interest; that it ends is seen in `ended`.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Session {
            connector: self.connector.clone(),
            server: self.server,
            client,
            connection,
            knocks_encrypted: AtomicBool::new(mode >= SslMode::Require),
        })
    }
}

async fn connect(server: Server) -> Result<TcpStream, PgError> {
    let stream = TcpStream::connect(server).await.map_err(PgError::Connect)?;
    stream.set_nodelay(true).map_err(PgError::Connect)?;
    Ok(stream)
}

/// A connection in which little is said before it ends: it does without acknowledgements that go by themselves
/// (tcp(7), `TCP_QUICKACK`), because what is said next carries them: the question behind the handshake, the
/// farewell behind the answer.
async fn connect_to_leave(server: Server) -> Result<TcpStream, PgError> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(PgError::Connect)?;
    let spare = |socket: SockRef<'_>| socket.set_tcp_quickack(false).map_err(PgError::Connect);
    spare(SockRef::from(&socket))?;
    let stream = socket.connect(server).await.map_err(PgError::Connect)?;
    // The kernel takes it back when a connection begins.
    spare(SockRef::from(&stream))?;
    Ok(stream)
}

/// A session whose other side is gone for good ends, and does not wait for ever.
fn keep_alive(stream: &TcpStream, timeout: Duration) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(timeout))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

async fn knock_once(connector: &Connector, server: Server, encrypted: bool) -> Result<(), PgError> {
    let login = connector.login();
    let mode = login.tls().mode();
    let mut stream = connect_to_leave(server).await?;
    if !encrypted {
        return welcomed(knock(&mut stream, login.user(), login.dbname()).await, mode);
    }
    let at_start = |error| PgError::at_start(error, mode);
    if !ask_for_tls(&mut stream).await.map_err(at_start)? {
        return Err(PgError::NoTls(mode));
    }
    let tls = TlsConnector::from(connector.tls()?);
    let mut stream = tls.connect(server.ip().into(), stream).await.map_err(at_start)?;
    let knocked = knock(&mut stream, login.user(), login.dbname()).await;
    say_goodbye(&mut stream).await;
    welcomed(knocked, mode)
}

/// TLS ends with a word, without which the server would log that the connection was cut.
async fn say_goodbye(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    use tokio::io::AsyncWriteExt as _;
    // What has been found out stays so, whether it hears this or not.
    let _ = stream.shutdown().await;
}

fn welcomed(knocked: std::io::Result<Welcome>, mode: SslMode) -> Result<(), PgError> {
    match knocked.map_err(|error| PgError::at_start(error, mode))? {
        Welcome::Taken => Ok(()),
        Welcome::Refused(state, told) => Err(PgError::Refused(state, told)),
    }
}
