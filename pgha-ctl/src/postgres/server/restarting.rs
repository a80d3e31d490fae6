//! The restart of a primary after a crash (S7): no client sees what it recovered before its voters have it.

use std::sync::Arc;

use pgha_machine::Lsn;
use pgha_machine::failover::voters::VoterSet;
use tokio::time::sleep;

use super::disk::Files;
use super::log_end::Positions;
use super::settings::{Settings, standby_names};
use super::starting::LOOK;
use super::{Run, Server, ServerError};

impl Server {
    /// Starts PostgreSQL in a new cgroup as the primary that it was, which admits replication and the agent, and no
    /// client (`Command::Restart`). Returns how far its log is flushed after recovery.
    ///
    /// # Errors
    /// What keeps it from that; nothing of PostgreSQL runs then, and its next start is a standby's.
    pub async fn restart(&self, voters: &VoterSet) -> Result<Lsn, ServerError> {
        let settings = Settings {
            synchronous_standby_names: standby_names(voters, self.0.config.method),
            ..Settings::default()
        };
        self.prepare(&settings, true).await?;
        let restarted = async {
            let run = self.begin(true, &[]).await?;
            // By itself, so that it comes to its end even if this is given up.
            let put_back = tokio::spawn(put_back(self.clone(), run));
            self.wait_until_it_answers(false).await?;
            let joined = put_back.await.map_err(std::io::Error::other);
            joined.map_err(ServerError::file("put back", "standby.signal"))??;
            self.wait_for_checkpointer().await?;
            match self.positions().await? {
                Positions::Primary { flushed, .. } => Ok(flushed),
                Positions::Standby { .. } => Err(ServerError::InRecovery),
            }
        };
        let restarted = restarted.await;
        let flushed = self.or_kill(restarted).await?;
        tracing::info!(
            "PostgreSQL is the primary again, flushed up to {flushed}, and admits no client"
        );
        Ok(flushed)
    }

    /// Admits whom the operator's `pg_hba.conf` admits (`Command::Admit`).
    ///
    /// # Errors
    /// Where PostgreSQL does not run, or the disk does not write.
    pub async fn admit(&self) -> Result<(), ServerError> {
        let hba = self.run()?.hba.clone();
        self.0.disk.run(move |files| files.admit(&hba)).await?;
        self.reload()?;
        tracing::info!("PostgreSQL admits clients");
        Ok(())
    }
}

/// Puts `standby.signal` back when the startup process has looked for it, which it does before it reads any WAL
/// and says so, and at the latest when the postmaster has ended: from then on a start by hand is a standby's again.
async fn put_back(server: Server, run: Arc<Run>) -> Result<(), ServerError> {
    while !run.postmaster.has_ended()
        && !server.startup(&run).starts_with("startup recovering")
        && server.session().await.is_err()
    {
        sleep(LOOK).await;
    }
    server.0.disk.run(Files::as_standby).await
}
