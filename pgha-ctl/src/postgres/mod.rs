//! Sessions with PostgreSQL, and the two questions the balancer asks.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use pgha_machine::Lsn;
use pgha_machine::balancer::{Finding, Standby, SyncState};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::config::Login;

const WALSENDERS: &str = include_str!("walsenders.sql");
const STANDBY: &str = include_str!("standby.sql");

/// A question that got no answer of use.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// PostgreSQL, or the way to it.
    #[error("{}", with_cause(.0))]
    Session(#[from] tokio_postgres::Error),
    /// Nothing came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The password file.
    #[error(transparent)]
    Password(#[from] crate::config::passfile::PassfileError),
    /// The answer lacks something.
    #[error("the answer has no usable {0}")]
    Answer(&'static str),
    /// The role sees walsenders but not what they do.
    #[error(
        "role {role} may not see the state of walsenders; on the primary: GRANT pg_monitor TO {role}"
    )]
    NotAMonitor {
        /// The role.
        role: String,
    },
    /// None of the hosts is a primary.
    #[error("{host} is in recovery, not a primary")]
    InRecovery {
        /// The host that was asked.
        host: IpAddr,
    },
}

/// An error of PostgreSQL with what lies under it, which it does not say by itself.
fn with_cause(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// An open session; its end can be waited for.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

impl Session {
    /// Logs in.
    ///
    /// # Errors
    /// Whatever keeps it from that within `timeout`.
    pub async fn open(login: &Login, server: Server, timeout: Duration) -> Result<Self, PgError> {
        let mut config = tokio_postgres::Config::new();
        config
            .hostaddr(server.address)
            .host(server.address.to_string())
            .port(server.port)
            .user(login.user())
            .dbname(login.dbname())
            .application_name("pgha")
            .tcp_user_timeout(timeout)
            .keepalives_idle(Duration::from_secs(5));
        if let Some(password) = login.password_for(server.address, server.port)? {
            config.password(password.expose());
        }
        let (client, connection) = within(timeout, config.connect(NoTls)).await??;
        // How the connection ends is of no interest; that it ends is seen in `ended`.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, connection })
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

    async fn rows(&self, sql: &str, timeout: Duration) -> Result<Vec<SimpleQueryRow>, PgError> {
        let messages = within(timeout, self.client.simple_query(sql)).await??;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn within<T>(timeout: Duration, work: impl Future<Output = T>) -> Result<T, PgError> {
    tokio::time::timeout(timeout, work).await.map_err(|_| PgError::Timeout(timeout))
}

/// A streaming walsender as the primary names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedWalsender {
    /// What the standby calls itself.
    pub application_name: String,
    /// Where it connects from; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// Its part in synchronous commit.
    pub sync_state: SyncState,
}

/// What the primary says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryReport {
    /// End of its WAL.
    pub lsn: Option<Lsn>,
    /// Its physical walsenders that stream.
    pub walsenders: Vec<NamedWalsender>,
}

/// Asks the primary for its walsenders: one query.
///
/// # Errors
/// A server that is no primary or does not tell, and whatever PostgreSQL says.
pub async fn walsenders(
    session: &Session,
    login: &Login,
    host: IpAddr,
    timeout: Duration,
) -> Result<PrimaryReport, PgError> {
    let rows = session.rows(WALSENDERS, timeout).await?;
    let me = rows.first().ok_or(PgError::Answer("row"))?;
    if me.get("in_recovery") != Some("f") {
        return Err(PgError::InRecovery { host });
    }
    let there = || rows.iter().filter(|row| row.get("pid").is_some());
    if there().any(|row| row.get("state").is_none()) {
        return Err(PgError::NotAMonitor { role: login.user().to_owned() });
    }
    Ok(PrimaryReport {
        lsn: lsn(me, "lsn"),
        walsenders: there()
            .filter(|row| row.get("state") == Some("streaming"))
            .filter_map(named_walsender)
            .collect(),
    })
}

fn named_walsender(row: &SimpleQueryRow) -> Option<NamedWalsender> {
    Some(NamedWalsender {
        application_name: row.get("application_name").unwrap_or_default().to_owned(),
        client: row.get("client").and_then(|client| client.parse().ok()),
        sync_state: match row.get("sync_state")? {
            "async" => SyncState::Async,
            "potential" => SyncState::Potential,
            "sync" => SyncState::Sync,
            "quorum" => SyncState::Quorum,
            _ => return None,
        },
    })
}

/// Checks a server with a session of its own, which is returned for keeping when it is a standby.
///
/// A new session each time, because only that shows that a client would get one: a server in a smart
/// shutdown serves the sessions it has and takes no other (PostgreSQL documentation, "Shutting Down
/// the Server").
pub async fn check(login: &Login, server: Server, timeout: Duration) -> (Finding, Option<Session>) {
    let asked = async {
        let session = Session::open(login, server, timeout).await?;
        let rows = session.rows(STANDBY, timeout).await?;
        Ok::<_, PgError>((rows, session))
    };
    match asked.await {
        Ok((rows, session)) => match standby(&rows) {
            Some(finding) => (finding, Some(session)),
            None => (Finding::Answered("the answer has no usable row".to_owned()), None),
        },
        Err(error) => (finding(&error), None),
    }
}

fn standby(rows: &[SimpleQueryRow]) -> Option<Finding> {
    let row = rows.first()?;
    Some(if row.get("in_recovery")? == "t" {
        Finding::Standby(Standby {
            received: lsn(row, "received"),
            replayed: lsn(row, "replayed"),
            ..Standby::default()
        })
    } else {
        Finding::NotInRecovery { timeline: None, system: None }
    })
}

fn lsn(row: &SimpleQueryRow, column: &str) -> Option<Lsn> {
    row.get(column).and_then(|text| text.parse().ok())
}

/// What a failed check says of the server.
fn finding(error: &PgError) -> Finding {
    let told = error.to_string();
    if error.is_login_refused() || matches!(error, PgError::Password(_)) {
        return Finding::Undecided(told);
    }
    let PgError::Session(session) = error else {
        let silent = matches!(error, PgError::Timeout(_));
        return if silent { Finding::Silent(told) } else { Finding::Answered(told) };
    };
    match session.code() {
        Some(&SqlState::CANNOT_CONNECT_NOW) => Finding::NotAccepting,
        // Sent to the sessions of a server that is being stopped: the next check tells how it ended.
        Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN) => Finding::Silent(told),
        Some(_) => Finding::Answered(told),
        None => match errno(session) {
            Some(Errno::ECONNREFUSED) => Finding::Refused,
            Some(errno) if LOCAL.contains(&errno) => Finding::Undecided(told),
            _ => Finding::Silent(told),
        },
    }
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

fn errno(error: &tokio_postgres::Error) -> Option<Errno> {
    let number = error.source()?.downcast_ref::<io::Error>()?.raw_os_error()?;
    Some(Errno::from_raw(number))
}

impl PgError {
    /// Whether PostgreSQL answered and refuses this login for good: wrong user, password, database
    /// or pg_hba.conf (SQLSTATE classes 28 and 3D).
    #[must_use]
    pub fn is_login_refused(&self) -> bool {
        let Self::Session(error) = self else { return false };
        let local = error.code().is_none()
            && error.source().is_some_and(|cause| cause.to_string().contains("password"));
        local
            || error
                .code()
                .is_some_and(|code| code.code().starts_with("28") || code.code().starts_with("3D"))
    }
}
