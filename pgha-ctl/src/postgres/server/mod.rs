//! PostgreSQL as a process: what an agent has done to it, carried out.
//!
//! [`Server`] has one method for each command of the machine (`pgha_machine::failover::agent::Command`), and each
//! returns what its outcome needs. They are given one at a time. A command that is given up (its future dropped)
//! leaves nothing behind that [`Server::kill`] does not end: whatever it had begun runs in one of the cluster's
//! cgroups, and jobs with files come to their end before those of the next command begin (`disk`).
//!
//! In the order in which things happen: a start (`starting`) in a cgroup of its own (`cgroup`, `process`) with the
//! settings that are pgha's (`settings`) and the admission that is due (`hba`); streaming, and its end (`streaming`,
//! `valve`); where the log ends (`log_end`, `history`); promotion (`promotion`) and the restart after a crash
//! (`restarting`); voters (`voting`); the way back of what diverged (`rewinding`) and of what
//! was left behind (`exchange`); what is watched meanwhile
//! (`watching`, `probe`); and what an agent finds when it begins (`adoption`).

mod adoption;
mod cgroup;
pub mod config;
mod disk;
mod error;
mod exchange;
pub mod facts;
mod hba;
mod history;
mod log_end;
mod own_files;
pub mod probe;
mod process;
mod promotion;
mod restarting;
mod rewinding;
mod session;
mod settings;
mod starting;
mod streaming;
mod tool;
mod unfinished_promotion;
mod user;
mod valve;
mod voting;
pub mod watching;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::Signal;
use pgha_machine::NodeName;
use tokio::time::Instant;

use cgroup::{Cgroup, Cgroups};
use disk::Disk;
use hba::Hba;
use process::Process;
use session::Local;

pub use adoption::Found;
pub use cgroup::CgroupError;
pub use config::ServerConfig;
pub use error::{Objection, ServerError};
pub use history::HistoryError;
pub use rewinding::Stage;
pub use starting::Stopped;
pub use user::OsUser;

/// What is asked before PostgreSQL begins in a new cgroup: whoever has to do something to that first (the lease
/// gate) does it now. An objection keeps PostgreSQL from starting.
pub type BeforeStart = Arc<dyn Fn(&Starting<'_>) -> Result<(), Objection> + Send + Sync>;

/// A start that is about to happen.
#[derive(Clone, Copy, Debug)]
pub struct Starting<'s> {
    /// Its number, which grows from start to start.
    pub number: u64,
    /// Its cgroup, empty.
    pub cgroup: &'s Path,
    /// It comes up as the primary that it was (`Command::Restart`).
    pub as_primary: bool,
}

/// PostgreSQL on this node. Clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    config: Arc<ServerConfig>,
    user: OsUser,
    cgroups: Cgroups,
    disk: Disk,
    before_start: BeforeStart,
    run: Mutex<Option<Arc<Run>>>,
    /// What the last start went by.
    hba: Mutex<Option<Hba>>,
    /// Whoever makes a directory beside the data, or removes one, has it.
    copying: Arc<tokio::sync::Mutex<()>>,
    /// A session that is kept: there may be no room for another when one is needed.
    session: Mutex<Option<Arc<Local>>>,
}

/// One start of PostgreSQL.
#[derive(Debug)]
struct Run {
    cgroup: Cgroup,
    postmaster: Process,
    hba: Hba,
    /// How long its log was before.
    log: u64,
}

/// Makes the agent's directories, and gives PostgreSQL's user its part of them: the only thing here that takes rights
/// over files of others.
///
/// # Errors
/// Without that user, and where they cannot be made.
pub fn prepare(config: &ServerConfig) -> Result<OsUser, ServerError> {
    let user = user_of(config)?;
    disk::directories(config, &user)?;
    Ok(user)
}

fn user_of(config: &ServerConfig) -> Result<OsUser, ServerError> {
    OsUser::named(&config.user)
        .map_err(|error| ServerError::User { user: config.user.clone(), error })
}

impl Server {
    /// PostgreSQL as it is configured. Nothing is begun, and nothing that runs is touched.
    ///
    /// # Errors
    /// Without cgroup v2, or without that user.
    pub fn new(config: ServerConfig, before_start: BeforeStart) -> Result<Self, ServerError> {
        let cgroups = Cgroups::of(&config.cluster, config.cgroup.as_deref())?;
        let user = user_of(&config)?;
        let config = Arc::new(config);
        let disk = Disk::new(Arc::clone(&config), user.clone());
        let (run, hba, session, copying) = <_>::default();
        let inner = Inner { config, user, cgroups, disk, before_start, run, hba, copying, session };
        Ok(Self(Arc::new(inner)))
    }

    /// How it is configured.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.0.config
    }

    /// The user of the operating system that it runs as.
    #[must_use]
    pub fn user(&self) -> &OsUser {
        &self.0.user
    }

    /// The number of the start that runs, and its cgroup.
    #[must_use]
    pub fn runs(&self) -> Option<(u64, std::path::PathBuf)> {
        let run = self.run().ok()?;
        Some((run.cgroup.number(), run.cgroup.path().to_owned()))
    }

    /// The process id of the postmaster that runs.
    #[must_use]
    pub fn postmaster(&self) -> Option<u32> {
        self.run().ok()?.postmaster.pid().try_into().ok()
    }

    /// Where its cgroups are.
    #[must_use]
    pub fn cgroups(&self) -> &Path {
        self.0.cgroups.path()
    }

    /// Returns when the postmaster of the start that runs has ended; at once where none runs. Cancel-safe.
    pub async fn ended(&self) {
        if let Ok(run) = self.run() {
            run.postmaster.ended().await;
        }
    }

    /// Ends every process of PostgreSQL and of the programs that were run for it, whatever else is under way, and
    /// returns when none is left (`Command::Kill`).
    ///
    /// # Errors
    /// Where a process does not end.
    pub async fn kill(&self) -> Result<(), ServerError> {
        let start = Instant::now();
        self.0.cgroups.kill(self.0.config.deadlines.kill).await?;
        if let Some(run) = self.forget() {
            run.postmaster.ended().await;
            let took = start.elapsed().as_millis();
            tracing::info!(
                "PostgreSQL is killed, and none of its processes is left, after {took} ms"
            );
        }
        Ok(())
    }

    fn run(&self) -> Result<Arc<Run>, ServerError> {
        let run = self.0.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.clone().ok_or(ServerError::Down)
    }

    fn runs_as(&self, run: Arc<Run>) {
        *self.0.hba.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.hba.clone());
        *self.0.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
    }

    fn forget(&self) -> Option<Arc<Run>> {
        self.keep(None);
        self.0.run.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A new session with the server.
    async fn session(&self) -> Result<Local, ServerError> {
        let config = &self.0.config;
        let socket = config.socket();
        let opened =
            Local::open(&self.0.user, &socket, config.port, &config.login, config.deadlines.answer);
        let opened = opened.await;
        opened.map_err(|error| match self.run() {
            Ok(run) if error.is_login_refused() => ServerError::Unwelcome {
                role: config.login.role.clone(),
                error: error.into(),
                hba: run.hba.link(),
            },
            _ => ServerError::Session(error.into()),
        })
    }

    /// The session that is kept, or a new one that is from here on.
    async fn kept_session(&self) -> Result<Arc<Local>, ServerError> {
        let kept = self.0.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = kept.filter(|session| !session.is_over()) {
            return Ok(session);
        }
        let session = Arc::new(self.session().await?);
        self.keep(Some(Arc::clone(&session)));
        Ok(session)
    }

    fn keep(&self, session: Option<Arc<Local>>) {
        *self.0.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Has the postmaster read its configuration again.
    fn reload(&self) -> Result<(), ServerError> {
        self.signal(Signal::SIGHUP)
    }

    fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        let run = self.run()?;
        let sent = run.postmaster.signal(signal);
        match sent.map_err(ServerError::file("signal", "the postmaster"))? {
            true => Ok(()),
            false => Err(ServerError::Down),
        }
    }

    fn peer(&self, node: &NodeName) -> Result<&config::Peer, ServerError> {
        self.0.config.peers.get(node).ok_or_else(|| ServerError::Unknown(node.clone()))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("config", &self.0.config).finish_non_exhaustive()
    }
}
