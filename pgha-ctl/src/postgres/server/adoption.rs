//! What an agent finds when it begins.

use std::sync::Arc;

use pgha_machine::{NodeName, Wal};

use super::disk::{Files, real};
use super::hba::{self, Hba};
use super::log_end::Positions;
use super::process::{Process, directory};
use super::session::is_not_yet;
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
    /// # Errors
    /// Where the server does not answer; where it is not in a cgroup of pgha's; where something does not end.
    pub async fn find(&self) -> Result<Found, ServerError> {
        let Some(run) = self.survivor().await? else {
            self.kill().await?;
            return Ok(Found::Nothing);
        };
        let pid = run.postmaster.pid();
        let number = run.cgroup.number();
        let hba = run.hba.clone();
        self.runs_as(Arc::new(run));
        tracing::info!(
            "PostgreSQL runs already, as process {pid} in start {number}: it is taken over"
        );
        let session = match self.session().await {
            Err(ServerError::Session(error)) if is_not_yet(&error) => {
                tracing::warn!("it does not answer yet, and is ended: {error}");
                self.kill().await?;
                return Ok(Found::Nothing);
            }
            session => Arc::new(session?),
        };
        self.keep(Some(Arc::clone(&session)));
        // The former agent may have ended before it did.
        self.0.disk.run(Files::as_standby).await?;
        let (settings, open) =
            self.0.disk.run(|files| Ok((files.settings()?, files.is_open()))).await?;
        let positions = Positions::of(&session).await?;
        let upstream = self.upstream(&settings).filter(|_| open);
        if upstream.is_none() && matches!(positions, Positions::Standby { .. }) {
            // The former agent may have ended in the middle of this.
            self.end_receivers().await?;
        }
        match (positions, self.wal(&session).await?) {
            (Positions::Primary { .. }, Some(wal)) => {
                Ok(Found::Primary { admits: !hba::is_closed(&hba), wal })
            }
            (Positions::Primary { .. }, None) => Err(ServerError::Answer("end of the log")),
            (Positions::Standby { .. }, wal) => Ok(Found::Standby { upstream, wal }),
        }
    }

    /// The one start whose postmaster is the one that `postmaster.pid` names; the others are ended.
    async fn survivor(&self) -> Result<Option<Run>, ServerError> {
        let named = self.0.disk.run(|files| Ok(files.postmaster())).await?;
        let ours =
            |pid: &i32| directory(*pid).is_some_and(|at| real(&at) == real(&self.0.config.data));
        let mut survivor = None;
        for cgroup in self.0.cgroups.all()? {
            match named.filter(ours) {
                Some(pid) if cgroup.processes()?.contains(&pid) => survivor = Some((cgroup, pid)),
                _ => {
                    cgroup.kill()?;
                    cgroup.emptied(self.0.config.deadlines.kill).await?;
                    cgroup.remove()?;
                }
            }
        }
        let Some((cgroup, pid)) = survivor else {
            return match named.filter(ours) {
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
