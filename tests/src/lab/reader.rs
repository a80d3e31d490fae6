//! A client that connects to one address all the time, asks who answers, and remembers it.
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::host::Host;
use super::postgres::PORT;
use super::process::POSTGRES_USER;

/// How long a visit may take before the next one.
const VISIT: Duration = Duration::from_secs(5);
/// Between two visits: few, so that they cost a machine of tests little.
const PAUSE: Duration = Duration::from_millis(80);

/// A connection, one question, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// When the client began to connect.
    pub began: Moment,
    /// When it had the answer, or gave up.
    pub ended: Moment,
    /// Who answered; the error where nobody did.
    pub answer: Result<Answer, String>,
}

/// A moment by both clocks: of this process, and the one on the wall, which other processes tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// By the clock of this process.
    pub here: Instant,
    /// Milliseconds since the Unix epoch.
    pub wall: u64,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { here: Instant::now(), wall: wall.as_millis().try_into().unwrap_or(u64::MAX) }
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its `cluster_name`.
    pub server: String,
    /// It is a standby.
    pub in_recovery: bool,
}

/// A reader, until it is stopped or dropped.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    visits: Mutex<Vec<Visit>>,
}

impl Shared {
    fn visits(&self) -> MutexGuard<'_, Vec<Visit>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Begins to visit that address from that host.
    ///
    /// # Errors
    /// Without a thread.
    pub fn start(from: &Host, at: impl Into<IpAddr>) -> Result<Self> {
        let (host, at, shared) = (from.clone(), at.into(), Arc::<Shared>::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("reader".to_owned()).spawn(move || {
            host.inside(|| {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    while !own.stop.load(Ordering::Relaxed) {
                        let visit = visit(at).await;
                        own.visits().push(visit);
                        sleep(PAUSE).await;
                    }
                });
                Ok(())
            })
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Its visits so far.
    pub fn visits(&self) -> Vec<Visit> {
        self.shared.visits().clone()
    }

    /// Waits for a visit that begins after this and is answered by that server.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_for(&self, server: &str, deadline: Duration) -> Result<()> {
        let now = Moment::now();
        let by = |visit: &Visit| visit.answer.as_ref().is_ok_and(|answer| answer.server == server);
        super::wait_until(format!("a reader to meet {server}"), deadline, || {
            let visits = self.shared.visits();
            let last = visits.last().map(|visit| format!("{:?}", visit.answer));
            let met = visits.iter().rev().take_while(|visit| visit.began > now).any(by);
            if met { Ok(true) } else { Err(anyhow!("the last visit: {last:?}")) }
        })
    }

    fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(anyhow!("the reader panicked")))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("lab: {error:#}");
        }
    }
}

async fn visit(at: IpAddr) -> Visit {
    let began = Moment::now();
    let answer = match timeout(VISIT, ask(at)).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {VISIT:?}")),
    };
    Visit { began, ended: Moment::now(), answer }
}

async fn ask(at: IpAddr) -> Result<Answer> {
    let mut config = Config::new();
    config.hostaddr(at).port(PORT).user(POSTGRES_USER).dbname(POSTGRES_USER);
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let sql = "select current_setting('cluster_name'), pg_is_in_recovery()";
    let rows = client.simple_query(sql).await;
    drop(client);
    let _ = connection.await;
    let row = rows?.into_iter().find_map(|message| {
        if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None }
    });
    let row = row.context("a row")?;
    let server = row.get(0).context("a server")?.to_owned();
    Ok(Answer { server, in_recovery: row.get(1) == Some("t") })
}
