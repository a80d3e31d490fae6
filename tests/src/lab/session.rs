//! Sessions with PostgreSQL that a test holds open while the world around them changes.
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::host::Host;
use super::postgres::PORT;
use super::process::POSTGRES_USER;
use super::wait::SOON;

/// How long a new session may take.
const CONNECT: Duration = Duration::from_secs(5);

/// An open session of the superuser, from a host. Dropping it closes its connection.
pub struct Session {
    // Before the runtime, which runs the task of the connection.
    client: Client,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
    runtime: Runtime,
}

impl Session {
    /// Opens one from that host.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn open(from: &Host, server: impl Into<IpAddr>) -> Result<Self> {
        let server = server.into();
        // One thread, so that the socket belongs to the namespace that this thread is in.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut config = Config::new();
        config
            .hostaddr(server)
            .port(PORT)
            .user(POSTGRES_USER)
            .dbname(POSTGRES_USER)
            .connect_timeout(CONNECT);
        let (client, connection) = from
            .inside(|| {
                runtime.block_on(async {
                    let (client, connection) = timeout(CONNECT, config.connect(NoTls)).await??;
                    Ok((client, tokio::spawn(connection)))
                })
            })
            .with_context(|| format!("a session from {} with {server}", from.name()))?;
        Ok(Self { client, connection, runtime })
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// When the session is over, the statement fails, takes longer than 30 s or yields nothing.
    pub fn query(&self, sql: &str) -> Result<String> {
        let messages = self
            .runtime
            .block_on(async { timeout(SOON, self.client.simple_query(sql)).await })??;
        let row = messages.iter().find_map(|message| {
            if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None }
        });
        Ok(row.and_then(|row| row.get(0)).context("no value")?.to_owned())
    }

    /// The name of the host whose server it is with.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub fn server(&self) -> Result<String> {
        self.query("show cluster_name")
    }

    /// Waits until its connection is over, without sending anything.
    ///
    /// # Errors
    /// When it is still open after the deadline.
    pub fn wait_ended(&mut self, deadline: Duration) -> Result<()> {
        let ended = self.runtime.block_on(async { timeout(deadline, &mut self.connection).await });
        if ended.is_err() {
            bail!("the session was still open after {deadline:?}");
        }
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("over", &self.connection.is_finished()).finish()
    }
}
