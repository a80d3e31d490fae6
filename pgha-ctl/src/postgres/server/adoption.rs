//! What an agent finds when it begins.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgha_machine::{NodeName, Wal};
use tokio::time::{Instant, sleep, timeout_at};

use super::disk::{Files, real};
use super::hba::{self, Hba};
use super::log_end::Positions;
use super::process::{Process, directory};
use super::starting::LOOK;
use super::{Run, Server, ServerError};

/// A server that an agent before this began, taken over as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// None: whatever was left of one, and of the programs that were run for it, is ended.
    Nothing,
    /// It is in recovery.
    Standby {
        /// The node it streams from, or is to.
        upstream: Option<NodeName>,
        /// Its log; `None` while its end is not known.
        wal: Option<Wal>,
    },
    /// It is not.
    Primary {
        /// Whether clients are admitted, as the operator's `pg_hba.conf` says.
        admits: bool,
        /// Its log.
        wal: Wal,
    },
}

impl Server {
    /// Takes over what runs in a cgroup of this cluster. Everything else in these is ended: orphans of a dead
    /// postmaster, and programs that a former agent was running.
    ///
    /// One that does not answer (it comes up, has no room for a session, or hangs) is asked again, for as long as
    /// `patience` says of the start with that number in that cgroup, and ended then: nobody knows what it is.
    ///
    /// # Errors
    /// Where the server refuses the agent; where it is not in a cgroup of pgha's; where something does not end.
    pub async fn find(
        &self,
        patience: impl FnOnce(u64, &Path) -> Duration,
    ) -> Result<Found, ServerError> {
        let Some(run) = self.survivor().await? else {
            self.kill().await?;
            return Ok(Found::Nothing);
        };
        let (pid, number) = (run.postmaster.pid(), run.cgroup.number());
        let within = patience(number, run.cgroup.path());
        let run = Arc::new(run);
        self.runs_as(Arc::clone(&run));
        tracing::info!(
            "PostgreSQL runs already, as process {pid} in start {number}: it is taken over"
        );
        if let Some(found) = self.find_out(&run, within).await? {
            return Ok(found);
        }
        self.kill().await?;
        Ok(Found::Nothing)
    }

    /// What it is; `None` where it does not say within that time.
    async fn find_out(&self, run: &Run, within: Duration) -> Result<Option<Found>, ServerError> {
        let end = Instant::now() + within;
        let mut told = None;
        loop {
            let why = match timeout_at(end, self.look_at(run)).await {
                Ok(Ok(found)) => return Ok(Some(found)),
                Ok(Err(ServerError::Session(error))) => error.to_string(),
                Ok(Err(error)) => return Err(error),
                Err(_) => told.take().unwrap_or_else(|| "it does not answer".to_owned()),
            };
            if run.postmaster.has_ended() || Instant::now() >= end {
                let within = within.as_millis();
                tracing::warn!("it could not be asked within {within} ms, and is ended: {why}");
                return Ok(None);
            }
            if told.as_ref() != Some(&why) {
                tracing::warn!("it cannot be asked yet, and is tried again: {why}");
                told = Some(why);
            }
            sleep(LOOK).await;
        }
    }

    async fn look_at(&self, run: &Run) -> Result<Found, ServerError> {
        let session = Arc::new(self.session().await?);
        self.keep(Some(Arc::clone(&session)));
        // The former agent may have ended before it did.
        self.0.disk.run(Files::as_standby).await?;
        let hba = run.hba.clone();
        let read = self
            .0
            .disk
            .run(move |files| Ok((files.settings()?, files.is_open(), !hba::is_closed(&hba))));
        let (settings, open, admits) = read.await?;
        let positions = Positions::of(&session).await?;
        let upstream = self.upstream(&settings).filter(|_| open);
        if upstream.is_none() && matches!(positions, Positions::Standby { .. }) {
            // The former agent may have ended in the middle of this.
            self.end_receivers().await?;
        }
        match (positions, self.wal(&session).await?) {
            (Positions::Primary { .. }, Some(wal)) => Ok(Found::Primary { admits, wal }),
            (Positions::Primary { .. }, None) => Err(ServerError::Answer("end of the log")),
            (Positions::Standby { .. }, wal) => Ok(Found::Standby { upstream, wal }),
        }
    }

    /// The one start whose postmaster is the one that `postmaster.pid` names; the others are ended.
    async fn survivor(&self) -> Result<Option<Run>, ServerError> {
        let named = self.0.disk.run(|files| {
            let data = real(&files.config.data);
            let ours = |pid: &i32| directory(*pid).is_some_and(|at| real(&at) == data);
            Ok(files.postmaster().filter(ours))
        });
        let named = named.await?;
        let mut survivor = None;
        for cgroup in self.0.cgroups.all()? {
            match named {
                Some(pid) if cgroup.processes()?.contains(&pid) => survivor = Some((cgroup, pid)),
                _ => {
                    cgroup.kill()?;
                    cgroup.emptied(self.0.config.deadlines.kill).await?;
                    cgroup.remove()?;
                }
            }
        }
        let Some((cgroup, pid)) = survivor else {
            return match named {
                Some(pid) => Err(ServerError::Foreign { pid, data: self.0.config.data.clone() }),
                None => Ok(None),
            };
        };
        let postmaster =
            Process::found(pid).map_err(ServerError::file("open", format!("process {pid}")))?;
        // The number may have been another's by the time the descriptor was opened.
        if !cgroup.processes()?.contains(&pid) || postmaster.has_ended() {
            return Ok(None);
        }
        let hba = Hba { operators: self.operators_hba().await?.operators };
        Ok(Some(Run { cgroup, postmaster, hba, log: 0 }))
    }
}
