//! Sessions: how they begin, what is asked in them, and that they end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode as Protection, SslNegotiation};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::TlsConnector;

use super::wire::{Welcome, ask_for_tls, knock};
use super::{Connector, PgError, Report, Server, within};
use crate::config::SslMode;

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
        within(timeout, log_in(connector, server, timeout)).await?
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
        self.connector.is_like(connector)
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
        let answered = self.client.simple_query(QUESTION).await;
        let messages = answered.map_err(|error| PgError::of(error, self.mode()))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Report::read(rows)
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

async fn log_in(
    connector: &Connector,
    server: Server,
    timeout: Duration,
) -> Result<Session, PgError> {
    let mode = connector.login().tls().mode();
    if mode == SslMode::Disable {
        return open_plain(connector, server, connect(server).await?, timeout).await;
    }
    let mut stream = connect(server).await?;
    let taken = ask_for_tls(&mut stream).await.map_err(|error| PgError::at_start(error, mode))?;
    match (taken, mode) {
        (false, SslMode::Prefer) => open_plain(connector, server, stream, timeout).await,
        (false, _) => Err(PgError::NoTls(mode)),
        (true, SslMode::Prefer) => match open_encrypted(connector, server, stream, timeout).await {
            // As libpq does: a server may take some clients only without.
            Err(error) if error.may_depend_on_tls() => {
                let plain = open_plain(connector, server, connect(server).await?, timeout).await;
                plain.or(Err(error))
            }
            opened => opened,
        },
        (true, _) => open_encrypted(connector, server, stream, timeout).await,
    }
}

async fn connect(server: Server) -> Result<TcpStream, PgError> {
    let stream = TcpStream::connect(server).await.map_err(PgError::Connect)?;
    stream.set_nodelay(true).map_err(PgError::Connect)?;
    Ok(stream)
}

async fn open_plain(
    connector: &Connector,
    server: Server,
    stream: TcpStream,
    timeout: Duration,
) -> Result<Session, PgError> {
    open_on(connector, server, stream, timeout, Protection::Disable, NoTls).await
}

async fn open_encrypted(
    connector: &Connector,
    server: Server,
    stream: TcpStream,
    timeout: Duration,
) -> Result<Session, PgError> {
    let mut tls = MakeRustlsConnect::new((*connector.tls()?).clone());
    let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, &server.ip().to_string())
        .expect("an address is a name that TLS takes");
    // The server has been asked for TLS already, so that its refusal is known for what it is.
    open_on(connector, server, stream, timeout, Protection::Require, tls).await
}

async fn open_on<T>(
    connector: &Connector,
    server: Server,
    stream: TcpStream,
    timeout: Duration,
    protection: Protection,
    tls: T,
) -> Result<Session, PgError>
where
    T: TlsConnect<TcpStream>,
    T::Stream: Send + 'static,
{
    let login = connector.login();
    let mode = login.tls().mode();
    keep_alive(&stream, timeout).map_err(PgError::Connect)?;
    let mut config = tokio_postgres::Config::new();
    config
        .user(login.user())
        .dbname(login.dbname())
        .application_name("pgha")
        .ssl_mode(protection)
        .ssl_negotiation(SslNegotiation::Direct);
    if let Some(password) = login.password_for(server.ip(), server.port())? {
        config.password(password.expose());
    }
    let opened = config.connect_raw(stream, tls).await;
    let (client, connection) = opened.map_err(|error| PgError::of(error, mode))?;
    // How the connection ends is of no interest; that it ends is seen in `ended`.
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let knocks_encrypted = AtomicBool::new(mode >= SslMode::Require);
    Ok(Session { connector: connector.clone(), server, client, connection, knocks_encrypted })
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
    let mut stream = connect(server).await?;
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
