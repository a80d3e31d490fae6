//! A client that writes all the time, and remembers what it was told is written.
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures_util::future::poll_fn;
use pgha_machine::{Lsn, Timeline};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

use super::host::Host;
use super::postgres::PORT;
use super::process::POSTGRES_USER;

/// How patient a writer is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a connection may take before another is tried.
    pub connect: Duration,
    /// How long a statement may take before another connection is tried.
    pub statement: Duration,
    /// Between two statements.
    pub pause: Duration,
    /// Between two attempts to connect.
    pub again: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            statement: Duration::from_secs(5),
            pause: Duration::from_millis(5),
            again: Duration::from_millis(20),
        }
    }
}

/// Ids that no two writers of a lab share.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// A commit that a client was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// What was written.
    pub id: i64,
    /// By which server: its `cluster_name`.
    pub server: String,
    /// On which timeline: in a managed cluster no two terms of a primary have the same.
    pub timeline: Timeline,
    /// How far its log was before the commit was written.
    pub lsn: Lsn,
    /// When the statement was sent.
    pub sent: Instant,
    /// When the client heard of it.
    pub at: Instant,
}

/// A writer, until it is stopped or dropped.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: Mutex<Vec<Acknowledged>>,
    connections: AtomicI64,
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, Vec<Acknowledged>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Begins to write into the table `acknowledged` at that address, from that host.
    ///
    /// # Errors
    /// Without a thread.
    pub fn start(from: &Host, at: impl Into<IpAddr>) -> Result<Self> {
        Self::start_with(from, at, Patience::default())
    }

    /// [`Writer::start`] with another patience.
    ///
    /// # Errors
    /// As that.
    pub fn start_with(from: &Host, at: impl Into<IpAddr>, patience: Patience) -> Result<Self> {
        let (host, at, shared) = (from.clone(), at.into(), Arc::<Shared>::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
            host.inside(|| {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(write(at, &own, patience));
                Ok(())
            })
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What it was told of so far.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.shared.list().clone()
    }

    /// How often it has connected.
    pub fn connections(&self) -> i64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// When it was told of a commit last.
    pub fn last(&self) -> Option<Instant> {
        self.shared.list().last().map(|acknowledged| acknowledged.at)
    }

    /// Waits until it is told of a commit that was sent later than `moment`.
    ///
    /// # Errors
    /// When it is not.
    pub fn wait_after(&self, moment: Instant, deadline: Duration) -> Result<()> {
        super::wait_until("a commit to be acknowledged", deadline, || {
            Ok(self.shared.list().last().is_some_and(|last| last.sent > moment))
        })
    }

    /// Ends it, and returns what it was told of.
    ///
    /// # Errors
    /// When it has failed by itself.
    pub fn stop(mut self) -> Result<Vec<Acknowledged>> {
        self.end()?;
        Ok(self.acknowledged())
    }

    /// Ends it; what it was told of is kept.
    ///
    /// # Errors
    /// When it has failed by itself.
    pub fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(anyhow!("the writer panicked")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("lab: {error:#}");
        }
    }
}

async fn write(at: IpAddr, shared: &Shared, patience: Patience) {
    while shared.goes_on() {
        let session = timeout(patience.connect, connect(at)).await.map_err(anyhow::Error::from);
        if let Ok(Ok((client, warned))) = session {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            while shared.goes_on() && insert(&client, &warned, shared, patience).await.is_ok() {
                sleep(patience.pause).await;
            }
        }
        sleep(patience.again).await;
    }
}

async fn connect(at: IpAddr) -> Result<(Client, Arc<AtomicBool>)> {
    let mut config = Config::new();
    config.hostaddr(at).port(PORT).user(POSTGRES_USER).dbname(POSTGRES_USER);
    let (client, mut connection) = config.connect(NoTls).await?;
    let warned = Arc::<AtomicBool>::default();
    let warns = Arc::clone(&warned);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if matches!(message, AsyncMessage::Notice(_)) {
                warns.store(true, Ordering::Relaxed);
            }
        }
    });
    Ok((client, warned))
}

/// One commit. One with a warning (that its wait was cancelled) is none that was acknowledged.
async fn insert(
    client: &Client,
    warned: &AtomicBool,
    shared: &Shared,
    patience: Patience,
) -> Result<()> {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let sql = format!(
        "insert into acknowledged values ({id}, current_setting('cluster_name')) returning server, \
         left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_current_wal_insert_lsn()"
    );
    let sent = Instant::now();
    // Who waits for a synchronous standby is let go when the writer ends.
    let ended = async {
        while shared.goes_on() {
            sleep(patience.again).await;
        }
    };
    let rows = tokio::select! {
        rows = timeout(patience.statement, client.simple_query(&sql)) => rows??,
        () = ended => bail!("the writer ends"),
    };
    let at = Instant::now();
    let row = rows.iter().find_map(|message| {
        if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None }
    });
    let row = row.context("a row")?;
    let text = |column| row.get(column).context("a value");
    let server = text(0)?.to_owned();
    let timeline = Timeline::new(u32::from_str_radix(text(1)?, 16)?);
    let lsn = text(2)?.parse()?;
    if !warned.swap(false, Ordering::Relaxed) {
        shared.list().push(Acknowledged { id, server, timeline, lsn, sent, at });
    }
    Ok(())
}

/// Nothing was acknowledged that was sent after a moment, nor heard of after it.
///
/// # Errors
/// Naming what was.
pub fn nothing_after(acknowledged: &[Acknowledged], moment: Instant) -> Result<()> {
    let late: Vec<_> = acknowledged.iter().filter(|one| one.at > moment).collect();
    ensure!(late.is_empty(), "acknowledged {:?} too late: {late:?}", late[0].at - moment);
    Ok(())
}

#[cfg(test)]
mod tests;
