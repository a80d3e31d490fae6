//! Sessions of the agent with its own server, over the Unix socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::config::LocalLogin;
use super::error::ServerError;
use super::user::OsUser;
use crate::config::SslMode;
use crate::postgres::report::Row as _;
use crate::postgres::{PgError, within};

/// A session, which ends with this.
#[derive(Debug)]
pub(super) struct Local {
    client: Client,
    connection: JoinHandle<()>,
    timeout: Duration,
}

impl Local {
    /// Logs in. The directory of the socket lets PostgreSQL's user in, and so it is looked up in that one's name; the
    /// server sees who really connects.
    pub(super) async fn open(
        user: &OsUser,
        socket: &Path,
        port: u16,
        login: &LocalLogin,
        timeout: Duration,
    ) -> Result<Self, PgError> {
        let mut config = tokio_postgres::Config::new();
        config.user(&login.role).dbname(&login.database).application_name("pgha");
        if let Some(password) = &login.password {
            config.password(password.expose());
        }
        let (user, path) = (user.clone(), socket.join(format!(".s.PGSQL.{port}")));
        let opened = within(timeout, async {
            let connected = move || user.with_files(|| UnixStream::connect(path)).flatten();
            let connected = tokio::task::spawn_blocking(connected).await.map_err(io::Error::other);
            let stream = connected.flatten().and_then(|stream| {
                stream.set_nonblocking(true)?;
                tokio::net::UnixStream::from_std(stream)
            });
            config.connect_raw(stream.map_err(PgError::Connect)?, NoTls).await.map_err(of)
        });
        let (client, connection) = opened.await??;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, connection, timeout })
    }

    /// Whether it can be asked nothing any more.
    pub(super) fn is_over(&self) -> bool {
        self.connection.is_finished()
    }

    /// The rows that a statement yields.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Answer>, ServerError> {
        let asked = within(self.timeout, self.client.simple_query(sql)).await;
        let asked = asked.and_then(|answer| answer.map_err(of));
        let messages = asked.map_err(|error| ServerError::Session(error.into()))?;
        let rows = messages.into_iter().filter_map(|message| {
            if let SimpleQueryMessage::Row(row) = message { Some(Answer(row)) } else { None }
        });
        Ok(rows.collect())
    }

    /// The one row that a statement yields.
    pub(super) async fn row(&self, sql: &str) -> Result<Answer, ServerError> {
        self.rows(sql).await?.pop().ok_or(ServerError::Answer("row"))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn of(error: tokio_postgres::Error) -> PgError {
    PgError::of(error, SslMode::Disable)
}

/// Whether a server that answers so is on its way up, or not there yet.
pub(super) fn is_not_yet(error: &PgError) -> bool {
    match error.sqlstate() {
        Some(state) => *state == SqlState::CANNOT_CONNECT_NOW,
        None => !error.is_login_refused(),
    }
}

/// A row.
#[derive(Debug)]
pub(super) struct Answer(SimpleQueryRow);

impl Answer {
    /// The text of a column; `None` for NULL.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        self.0.text(column)
    }

    /// The value of a column that may be NULL.
    pub(super) fn maybe<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, ServerError> {
        let value = self.text(column).map(str::parse).transpose();
        value.map_err(|_| ServerError::Answer(column))
    }

    /// The value of a column.
    pub(super) fn value<T: FromStr>(&self, column: &'static str) -> Result<T, ServerError> {
        self.maybe(column)?.ok_or(ServerError::Answer(column))
    }

    /// Whether a column is true.
    pub(super) fn is(&self, column: &'static str) -> Result<bool, ServerError> {
        match self.text(column) {
            Some("t") => Ok(true),
            Some("f") => Ok(false),
            _ => Err(ServerError::Answer(column)),
        }
    }
}
