//! Promotion, to exactly the timeline that was ordered.

use nix::sys::signal::Signal;
use pgha_machine::failover::voters::VoterSet;
use pgha_machine::{Position, Timeline};
use tokio::time::{Instant, sleep};

use super::disk::Files;
use super::log_end::Positions;
use super::settings::standby_names;
use super::starting::LOOK;
use super::{Server, ServerError};

impl Server {
    /// Sets the voters, promotes a standby that streams from nobody to `timeline`, and has the next start come up
    /// as a standby again (`Command::Promote`). Returns where the timeline begins.
    ///
    /// # Errors
    /// Where that timeline cannot be had, before anything is changed; or what keeps PostgreSQL from it. One that
    /// took another timeline is killed.
    pub async fn promote(
        &self,
        timeline: Timeline,
        voters: &VoterSet,
    ) -> Result<Position, ServerError> {
        let begun = Instant::now();
        let wal = self.settled_wal().await?.ok_or(ServerError::Answer("end of the log"))?;
        let from = wal.end.timeline;
        self.0
            .disk
            .run(move |files| {
                for (missing, history) in files.histories()?.missing(from, timeline)? {
                    files.tell(missing, &history)?;
                }
                Ok(())
            })
            .await?;
        self.wait_for_standbys(standby_names(voters, self.0.config.method)).await?;
        // Before there is anything to acknowledge.
        self.wait_for_checkpointer().await?;
        let promoted = async {
            self.0
                .disk
                .run(move |files| {
                    files.promotion_begins(timeline)?;
                    files.ask_to_promote()
                })
                .await?;
            self.signal(Signal::SIGUSR1)?;
            self.wait_until_promoted().await?;
            self.promoted(timeline).await
        };
        // From here on it may come out of recovery whenever it likes.
        let promoted = promoted.await;
        let fork = self.or_kill(promoted).await?;
        let took = begun.elapsed().as_millis();
        tracing::info!(
            "PostgreSQL writes timeline {timeline}, from {} on, after {took} ms",
            fork.lsn
        );
        Ok(fork)
    }

    /// PostgreSQL removes `standby.signal` on its way out of recovery. It is put back as soon as that is seen.
    async fn wait_until_promoted(&self) -> Result<(), ServerError> {
        let within = self.0.config.deadlines.promote;
        let run = self.run()?;
        let session = self.kept_session().await?;
        let begun = Instant::now();
        let mut removed = false;
        loop {
            removed |= self
                .0
                .disk
                .run(|files| {
                    let removed = !files.is_standby();
                    if removed { files.as_standby().map(|()| true) } else { Ok(false) }
                })
                .await?;
            let now = session.row("SELECT pg_is_in_recovery() AS in_recovery").await;
            if run.postmaster.has_ended() {
                return Err(self.obituary("while it was promoted"));
            }
            // Out of recovery before the file is gone cannot be: it would be removed later.
            if !now?.is("in_recovery")? && removed {
                return Ok(());
            }
            if begun.elapsed() >= within {
                let seen = self.startup(&run);
                return Err(ServerError::Late { what: "the promotion", within, seen });
            }
            sleep(LOOK).await;
        }
    }

    async fn promoted(&self, ordered: Timeline) -> Result<Position, ServerError> {
        let Positions::Primary { timeline: taken, .. } = self.positions().await? else {
            return Err(ServerError::InRecovery);
        };
        if taken != ordered {
            return Err(ServerError::Timeline { ordered, taken });
        }
        let fork = self.0.disk.run(move |files| Ok(files.histories()?.left(taken)?.pop())).await?;
        let fork = fork.ok_or(ServerError::Answer("history of its timeline"))?;
        self.0.disk.run(Files::promotion_is_over).await?;
        Ok(fork)
    }
}
