//! The files by which PostgreSQL is told what it is, each whole and synced before the next step.
//!
//! Everything here may wait for a disk that hangs, so it runs on threads that nothing else waits for, one job at a
//! time: a job whose command was given up runs to its end before the next command's begins, and none of it comes
//! later. Each runs in the name of PostgreSQL's user (`user`), whose files these are.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgha_machine::Timeline;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::config::ServerConfig;
use super::error::ServerError;
use super::hba::{self, Hba};
use super::history::{Histories, file_name, is_file_of, is_wal_file};
use super::process;
use super::settings::{Settings, without_owned};
use super::user::OsUser;
use super::valve;
use crate::rpc::durable;

/// That PostgreSQL comes up as a standby, whoever starts it.
const STANDBY_SIGNAL: &str = "standby.signal";
/// What asks a standby to be promoted, as `pg_ctl promote` does.
const PROMOTE_SIGNAL: &str = "promote";

/// The length of a WAL file unless initdb was told otherwise.
const WAL_FILE: u64 = 16 << 20;

/// Runs jobs with files, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    files: Arc<Files>,
    turn: Arc<Mutex<()>>,
}

impl Disk {
    pub(super) fn new(config: Arc<ServerConfig>, user: OsUser) -> Self {
        Self { files: Arc::new(Files { config, user }), turn: Arc::default() }
    }

    /// Does it in the name of PostgreSQL's user, when those before it are done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Files) -> Result<T, ServerError> + Send + 'static,
    ) -> Result<T, ServerError> {
        self.take_turn(move |files| {
            let done = files.user.with_files(|| job(files));
            done.map_err(ServerError::file("use", &files.config.data))?
        })
        .await
    }

    /// Makes the agent's directories where they are missing.
    pub(super) async fn make_directories(&self) -> Result<(), ServerError> {
        self.take_turn(|files| directories(&files.config, &files.user)).await
    }

    async fn take_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Files) -> Result<T, ServerError> + Send + 'static,
    ) -> Result<T, ServerError> {
        let within = self.files.config.deadlines.disk;
        let files = Arc::clone(&self.files);
        let done = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let job = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                job(&files)
            });
            job.await.map_err(io::Error::other)
        };
        let done = timeout(within, done).await;
        done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(ServerError::file("use", &self.files.config.data))?
    }
}

/// The files themselves.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) config: Arc<ServerConfig>,
    pub(super) user: OsUser,
}

impl Files {
    /// Removes what former starts left of sockets and locks, once all their processes are gone. A lock file that is
    /// empty is of one that was killed while it wrote it, and PostgreSQL would refuse to start for ever. One of a postmaster
    /// that is dead and whose parent, no agent any more, has not taken that in would keep it from that for as long.
    pub(super) fn remove_locks(&self) -> Result<(), ServerError> {
        let config = &self.config;
        let socket = format!(".s.PGSQL.{}", config.port);
        let lock = format!("{socket}.lock");
        remove(&config.socket().join(socket))?;
        remove(&config.socket().join(&lock))?;
        let others = config.local_sockets.iter().map(|directory| directory.join(&lock));
        for lock in others.chain([config.in_data("postmaster.pid")]) {
            let is_empty = fs::metadata(&lock).is_ok_and(|metadata| metadata.len() == 0);
            if is_empty || process::is_lock_of_the_dead(&lock) {
                remove(&lock)?;
            }
        }
        Ok(())
    }

    /// A start comes up as a standby from now on.
    pub(super) fn as_standby(&self) -> Result<(), ServerError> {
        let path = self.config.in_data(STANDBY_SIGNAL);
        let failed = |error| ServerError::file("write", &path)(error);
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        durable::sync(&self.config.data).map_err(failed)
    }

    /// Whether a start comes up as a standby.
    pub(super) fn is_standby(&self) -> bool {
        self.config.in_data(STANDBY_SIGNAL).exists()
    }

    /// The next start comes up as the primary that this was.
    /// Not for good: should the machine go down before it is put back, it is best still there.
    pub(super) fn as_primary(&self) -> Result<(), ServerError> {
        let path = self.config.in_data(STANDBY_SIGNAL);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ServerError::file("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Has the postmaster promote when it is signalled next.
    pub(super) fn ask_to_promote(&self) -> Result<(), ServerError> {
        let path = self.config.in_data(PROMOTE_SIGNAL);
        File::create(&path).map(drop).map_err(ServerError::file("write", path))
    }

    /// Writes the settings.
    pub(super) fn set(&self, settings: &Settings) -> Result<(), ServerError> {
        let text = settings.render(&self.config.config_file, self.version()?);
        self.put(&self.config.own_config(), &text)
    }

    /// The major version of PostgreSQL that the data directory is of.
    fn version(&self) -> Result<u32, ServerError> {
        let path = self.config.in_data("PG_VERSION");
        let text = fs::read_to_string(&path).map_err(ServerError::file("read", &path))?;
        text.trim().parse().map_err(|_| ServerError::Answer("PG_VERSION"))
    }

    /// Reads the settings.
    pub(super) fn settings(&self) -> Result<Settings, ServerError> {
        let path = self.config.own_config();
        let text = fs::read_to_string(&path).map_err(ServerError::file("read", path))?;
        Ok(Settings::read(&text))
    }

    /// Takes what is pgha's out of what `ALTER SYSTEM` wrote, which would count more.
    pub(super) fn mend_auto_conf(&self) -> Result<(), ServerError> {
        let path = self.config.in_data("postgresql.auto.conf");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(ServerError::file("read", &path))?,
        };
        let Some((kept, names)) = without_owned(&text) else { return Ok(()) };
        self.put(&path, &kept)?;
        let names = names.join(", ");
        tracing::warn!("taken out of {}, because pgha sets it: {names}", path.display());
        Ok(())
    }

    /// Lets receivers begin, or none.
    pub(super) fn valve(&self, open: bool) -> Result<(), ServerError> {
        let path = self.config.valve();
        valve::set(&path, open).map_err(ServerError::file("write", path))
    }

    /// Whether receivers may begin.
    pub(super) fn is_open(&self) -> bool {
        fs::metadata(self.config.valve()).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// Has clients admitted as the operator says.
    pub(super) fn admit(&self, hba: &Hba) -> Result<(), ServerError> {
        hba::lead(hba, &hba.operators).map_err(ServerError::file("make", hba.link()))
    }

    /// Has no client admitted.
    pub(super) fn admit_nobody(&self, hba: &Hba) -> Result<(), ServerError> {
        let text = fs::read_to_string(&hba.operators)
            .map_err(ServerError::file("read", &hba.operators))?;
        let login = &self.config.login;
        // `md5` takes what PostgreSQL has of the password, SCRAM too.
        let method = if login.password.is_some() { "md5" } else { "peer" };
        self.put(&hba.closed(), &hba::closed(&text, &login.role, method))?;
        hba::lead(hba, &hba.closed()).map_err(ServerError::file("make", hba.link()))
    }

    /// What `pg_wal` says of timelines.
    pub(super) fn histories(&self) -> Result<Histories, ServerError> {
        self.histories_but(None)
    }

    /// The same, as if there was nothing of that one.
    pub(super) fn histories_but(&self, but: Option<Timeline>) -> Result<Histories, ServerError> {
        let directory = self.config.wal();
        let length = |name: &String| {
            let of = || fs::metadata(directory.join(name)).ok().map(|metadata| metadata.len());
            is_wal_file(name).then(of).flatten().filter(|bytes| bytes.is_power_of_two())
        };
        let listed = || -> io::Result<Vec<String>> {
            let names = fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name()));
            let names = names.collect::<io::Result<Vec<_>>>()?;
            Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
        };
        let mut names = listed().map_err(ServerError::file("list", &directory))?;
        if let Some(but) = but {
            names.retain(|name| !is_file_of(name, but) && *name != file_name(but));
        }
        let segment = names.iter().find_map(length).unwrap_or(WAL_FILE);
        Histories::read(names, segment, |name| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(ServerError::file("read", path))
        })
    }

    /// Writes a timeline's history.
    pub(super) fn tell(&self, timeline: Timeline, history: &str) -> Result<(), ServerError> {
        self.put(&self.config.wal().join(file_name(timeline)), history)
    }

    /// Removes histories that lead nowhere; which.
    pub(super) fn forget_unused(&self) -> Result<Vec<Timeline>, ServerError> {
        let unused = self.histories()?.unused();
        for timeline in &unused {
            remove(&self.config.wal().join(file_name(*timeline)))?;
        }
        Ok(unused)
    }

    /// The postmaster that `postmaster.pid` names.
    pub(super) fn postmaster(&self) -> Option<i32> {
        let text = fs::read_to_string(self.config.in_data("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Puts a file of PostgreSQL's in one step.
    pub(super) fn put(&self, path: &Path, text: &str) -> Result<(), ServerError> {
        let failed = |error| ServerError::file("write", path)(error);
        if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
            // Whoever put it may not have come to that.
            return path.parent().map_or(Ok(()), durable::sync).map_err(failed);
        }
        durable::replace(path, text.as_bytes(), 0o600).map_err(failed)
    }
}

/// Makes the agent's directories, and in each of them the part that is PostgreSQL's user's, where they are missing. To
/// give those away takes CAP_CHOWN.
pub(super) fn directories(config: &ServerConfig, user: &OsUser) -> Result<(), ServerError> {
    for (own, theirs) in [(&config.state, config.files()), (&config.runtime, config.socket())] {
        durable::directory(own, 0o711, &durable::sync).map_err(ServerError::file("make", own))?;
        let entered = fs::metadata(own).and_then(|metadata| {
            let mode = metadata.permissions().mode();
            // That of a former version let nobody in.
            if mode & 0o111 == 0o111 {
                return Ok(());
            }
            fs::set_permissions(own, fs::Permissions::from_mode(mode | 0o111))
        });
        entered.map_err(ServerError::file("let PostgreSQL's user into", own))?;
        durable::directory(&theirs, 0o700, &durable::sync)
            .map_err(ServerError::file("make", &theirs))?;
        user.give(&theirs).map_err(ServerError::file("give to PostgreSQL's user", &theirs))?;
        let used = user.with_files(|| fs::read_dir(&theirs).map(drop)).flatten();
        used.map_err(|error| ServerError::Closed {
            path: theirs,
            user: config.user.clone(),
            error,
        })?;
    }
    Ok(())
}

/// Removes a file that may be there, for good.
pub(super) fn remove(path: &Path) -> Result<(), ServerError> {
    let failed = |error| ServerError::file("remove", path)(error);
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(()) => path.parent().map_or(Ok(()), durable::sync).map_err(failed),
    }
}

/// Where PostgreSQL's own idea of a path and the agent's agree: without links.
pub(super) fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
