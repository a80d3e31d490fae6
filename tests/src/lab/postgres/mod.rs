//! One PostgreSQL server on one host.
pub(super) mod create;
mod template;

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::Host;
use super::plan::name_at;
use super::process::{Cmd, Daemon, Running};
use super::wait::{SOON, wait_for, wait_until};

/// The port of every server.
pub const PORT: u16 = 5432;
/// The role with `pg_monitor` that pgha logs in as.
pub const MONITOR: &str = "pgha";

const INSTALLATIONS: &str = "/usr/lib/postgresql";
const PREFERRED_MAJOR: u32 = 15;
const OLDEST_MAJOR: u32 = 13;

/// How a server differs from the lab's usual one.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    application_name: Option<String>,
    gucs: Vec<(String, String)>,
}

impl PostgresOptions {
    /// The name a standby gives its walreceiver; its host's name unless set.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.application_name = Some(name.to_owned());
        self
    }

    /// A setting, written to `postgresql.conf` after the lab's own.
    #[must_use]
    pub fn guc(mut self, name: &str, value: &str) -> Self {
        self.gucs.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A PostgreSQL server. A handle: dropping it leaves the server running until the lab ends.
#[derive(Debug, Clone)]
pub struct Postgres {
    host: Host,
    /// The last start by this lab.
    daemon: Arc<Mutex<Option<Daemon>>>,
}

impl Postgres {
    fn new(host: Host) -> Self {
        Self { host, daemon: Arc::default() }
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The directory of its Unix socket, and the parent of [`Postgres::data`].
    pub fn home(&self) -> PathBuf {
        self.host.data()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// All it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_path())?).into_owned())
    }

    fn log_path(&self) -> PathBuf {
        self.host.log_path("postgres")
    }

    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    /// When it ends instead; with the end of its log.
    pub fn start(&self) -> Result<()> {
        if self.is_running()? {
            bail!("PostgreSQL on {} runs already", self.host.name());
        }
        let mut cluster_name = OsString::from("cluster_name=");
        cluster_name.push(self.host.name());
        let daemon = self
            .tool("postgres")?
            .args([OsString::from("-D"), self.data().into(), "-k".into(), self.home().into()])
            .args([OsString::from("-c"), cluster_name])
            .daemon(&self.log_path())?;
        self.host.shared.adopt(daemon.clone());
        *self.daemon() = Some(daemon.clone());
        let what = format!("PostgreSQL on {} to accept connections", self.host.name());
        let ended = wait_for(what, SOON, || match (daemon.ended()?, self.pid_file()?) {
            (Some(status), _) => Ok(Some(Some(status))),
            (None, Some((pid, true))) if pid == daemon.pid() => Ok(Some(None)),
            (None, seen) => bail!("postmaster.pid says {seen:?}"),
        })?;
        ended.map_or(Ok(()), |status: ExitStatus| Err(daemon.obituary(status)))
    }

    /// Stops it by a fast shutdown and waits for its end.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&self) -> Result<()> {
        self.signal_postmaster(Signal::SIGINT)?;
        self.wait_stopped(SOON)
    }

    /// Waits until its postmaster has ended.
    ///
    /// # Errors
    /// When it still runs after the deadline.
    pub fn wait_stopped(&self, deadline: Duration) -> Result<()> {
        let what = format!("the end of PostgreSQL on {}", self.host.name());
        wait_until(what, deadline, || Ok(!self.is_running()?))
    }

    /// The id of its postmaster; none when that does not run, whoever started it.
    ///
    /// # Errors
    /// When `postmaster.pid` cannot be read.
    pub fn postmaster_pid(&self) -> Result<Option<i32>> {
        // Until it has been waited for it has its id, and the next start would take it for another
        // postmaster: while it ends it is in no namespace any more, and not yet a zombie.
        if let Some(daemon) = &*self.daemon()
            && daemon.ended()?.is_none()
        {
            return Ok(Some(daemon.pid()));
        }
        // The file outlives a killed postmaster.
        Ok(self.pid_file()?.map(|(pid, _)| pid).filter(|&pid| self.host.namespace().holds(pid)))
    }

    /// Whether its postmaster runs.
    ///
    /// # Errors
    /// As [`Postgres::postmaster_pid`].
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.postmaster_pid()?.is_some())
    }

    /// Signals the postmaster.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_postmaster(&self, signal: Signal) -> Result<()> {
        let pid = self
            .postmaster_pid()?
            .with_context(|| format!("PostgreSQL on {} does not run", self.host.name()))?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
    }

    /// Signals each of its processes, orphans of a dead postmaster too, as `killall postgres` does
    /// on a host of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        for pid in self.processes()? {
            match kill(Pid::from_raw(pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => bail!("{signal} to {pid}: {errno}"),
            }
        }
        Ok(())
    }

    /// The ids of its processes in ascending order, orphans of a dead postmaster too.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let is_server = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|command| command.trim_end() == "postgres")
        };
        Ok(self.host.namespace().processes()?.into_iter().filter(is_server).collect())
    }

    /// Runs SQL as the superuser over the Unix socket, each statement in a transaction of its own,
    /// and returns the rows: one line each, columns separated by `|`.
    ///
    /// # Errors
    /// When psql cannot connect or a statement fails.
    pub fn psql(&self, sql: &str) -> Result<String> {
        psql(&self.host, &self.home(), sql)
    }

    /// Waits until it streams from its upstream, in the eyes of both.
    ///
    /// # Errors
    /// When it does not; with what each of them says.
    pub fn wait_streaming(&self) -> Result<()> {
        let what = format!("{} to stream", self.host.name());
        wait_for(what, SOON, || {
            let sender = self
                .psql("select sender_host from pg_stat_wal_receiver where status = 'streaming'")?;
            let sender: Ipv4Addr = sender.parse().context("it receives no WAL")?;
            let upstream = name_at(sender).with_context(|| format!("{sender} is no host"))?;
            let state = psql(
                &self.host,
                &self.host.data_of(&upstream),
                &format!(
                    "select state from pg_stat_replication where client_addr = '{}' \
                     and application_name <> 'pg_basebackup'",
                    self.host.address()
                ),
            )?;
            if !state.lines().any(|state| state == "streaming") {
                bail!("{upstream} says: `{state}`");
            }
            Ok(Some(()))
        })
    }

    /// Has the postmaster read its configuration again, and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or the file has an error.
    pub fn reload(&self) -> Result<()> {
        const LOADED: &str = "select pg_conf_load_time()";
        let before = self.psql(LOADED)?;
        self.signal_postmaster(Signal::SIGHUP)?;
        wait_until(format!("the reload of {}", self.host.name()), SOON, || {
            Ok(self.psql(LOADED)? != before)
        })
    }

    /// Changes a setting: in a running server by `ALTER SYSTEM` and a reload, in a stopped one in
    /// the same file.
    ///
    /// # Errors
    /// When PostgreSQL refuses it.
    pub fn set_guc(&self, name: &str, value: &str) -> Result<()> {
        let quoted = value.replace('\'', "''");
        if self.is_running()? {
            self.psql(&format!("alter system set {name} = '{quoted}'"))?;
            return self.reload();
        }
        append(&self.data().join("postgresql.auto.conf"), &format!("{name} = '{quoted}'\n"))
    }

    /// A `pg_receivewal` from this server, run on another host under that application name.
    ///
    /// # Errors
    /// When it cannot be started; that it connects is for the caller to see.
    pub fn receivewal(&self, client: &Host, application_name: &str) -> Result<Running> {
        self.replication_client("pg_receivewal", client, application_name, &["--no-loop"])
    }

    /// The same, which flushes what it receives and says so at once, as a synchronous standby does.
    ///
    /// # Errors
    /// As [`Postgres::receivewal`].
    pub fn synchronous_receivewal(&self, client: &Host, name: &str) -> Result<Running> {
        let options = ["--no-loop", "--synchronous"];
        self.replication_client("pg_receivewal", client, name, &options)
    }

    /// A `pg_basebackup` from this server at 32 kB/s, so one that outlives any test, run on another
    /// host under that application name. What is written meanwhile it takes by that method (`--wal-method`): `stream`
    /// is by a second connection.
    ///
    /// # Errors
    /// As [`Postgres::receivewal`].
    pub fn basebackup(&self, client: &Host, application_name: &str, wal: &str) -> Result<Running> {
        let wal = format!("--wal-method={wal}");
        let options = ["--max-rate=32k", "--checkpoint=fast", "--no-sync", &wal];
        self.replication_client("pg_basebackup", client, application_name, &options)
    }

    fn replication_client(
        &self,
        tool: &str,
        client: &Host,
        application_name: &str,
        options: &[&str],
    ) -> Result<Running> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{tool}{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let directory = client.data().join(&name);
        client.command(["mkdir", "-p", "-m", "700"])?.args([&directory]).as_postgres()?.run()?;
        tool_on(client, tool)?
            .args(["-d", &conninfo(self.host.address(), application_name), "-D"])
            .args([&directory])
            .args(options)
            .start(&client.log_path(&name))
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tool(&self, name: &str) -> Result<Cmd> {
        tool_on(&self.host, name)
    }

    /// The process id in `postmaster.pid`, and whether it says that connections are accepted (for a
    /// server without hot standby: that it is up).
    fn pid_file(&self) -> Result<Option<(i32, bool)>> {
        let path = self.data().join("postmaster.pid");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| path.display().to_string())?,
        };
        let mut lines = text.lines();
        let Some(pid) = lines.next().and_then(|line| line.parse().ok()) else { return Ok(None) };
        // Line 8 (LOCK_FILE_LINE_PM_STATUS in PostgreSQL's pidfile.h).
        let up = lines.nth(6).is_some_and(|status| matches!(status.trim(), "ready" | "standby"));
        Ok(Some((pid, up)))
    }
}

fn psql(host: &Host, socket: &Path, sql: &str) -> Result<String> {
    tool_on(host, "psql")?
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-", "-h"])
        .args([socket])
        .stdin(sql)
        .run()
}

fn conninfo(address: Ipv4Addr, application_name: &str) -> String {
    format!("host={address} port={PORT} application_name={application_name}")
}

/// A program of the PostgreSQL installation, on a host, as the user `postgres`.
fn tool_on(host: &Host, name: &str) -> Result<Cmd> {
    host.command([bin_directory()?.join(name)])?.as_postgres()
}

/// The programs of the PostgreSQL under test: `PGHA_PG_BIN`, else version 15, else the newest from
/// 13 on.
///
/// # Errors
/// When none is installed.
pub fn bin_directory() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PGHA_PG_BIN") {
        return Ok(path.into());
    }
    let majors = fs::read_dir(INSTALLATIONS)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    majors
        .filter(|&major| major >= OLDEST_MAJOR)
        .map(|major| (major == PREFERRED_MAJOR, major))
        .filter(|(_, major)| binaries_of(*major).join("postgres").is_file())
        .max()
        .map(|(_, major)| binaries_of(major))
        .with_context(|| {
            format!(
                "no PostgreSQL {OLDEST_MAJOR} or later in {INSTALLATIONS}: install it, or name the \
                 directory of its programs in PGHA_PG_BIN"
            )
        })
}

fn binaries_of(major: u32) -> PathBuf {
    Path::new(INSTALLATIONS).join(major.to_string()).join("bin")
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file =
        OpenOptions::new().append(true).open(path).with_context(|| path.display().to_string())?;
    Ok(file.write_all(text.as_bytes())?)
}
