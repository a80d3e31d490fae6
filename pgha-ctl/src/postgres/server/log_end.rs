//! Where the log of this node ends.
//!
//! Of a primary, what it has flushed. Of a standby, what was received or replayed, whichever is later, with three
//! traps. What was received is forgotten by a restart (`pg_last_wal_receive_lsn()` is NULL), and what is on disk
//! then is known only when all of it has been replayed. That replay stands still proves nothing: a paused one does
//! too, and one that waits for a query, and one that is delayed. But the startup process says what it waits for:
//! `RecoveryRetrieveRetryInterval` is the one wait it enters only after every source has failed to give it the next
//! byte, `pg_wal` among them (`WaitForWALToBecomeAvailable`). Where no receiver has run since the start, that is the
//! end of the log. Where one has, what that received is in its account, so that this need not be asked.

use pgha_machine::{Lsn, Timeline, Wal};
use tokio::time::{Instant, sleep};

use super::session::Local;
use super::starting::LOOK;
use super::{Server, ServerError};

const POSITIONS: &str = include_str!("positions.sql");

/// What the startup process waits for: `x` is true when it has found no more WAL anywhere.
const FOUND_NO_MORE: &str = "SELECT coalesce(bool_or(wait_event = 'RecoveryRetrieveRetryInterval'), false) AS x \
     FROM pg_stat_activity WHERE backend_type = 'startup'";

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Positions {
    /// It writes that timeline.
    Primary { timeline: Timeline, flushed: Lsn },
    /// It is in recovery.
    Standby {
        /// By receivers since its start; `None`: there was none.
        received: Option<Lsn>,
        replayed: Option<Lsn>,
    },
}

impl Positions {
    pub(super) async fn of(session: &Local) -> Result<Self, ServerError> {
        let row = session.row(POSITIONS).await?;
        if row.is("in_recovery")? {
            let (received, replayed) = (row.maybe("received")?, row.maybe("replayed")?);
            return Ok(Self::Standby { received, replayed });
        }
        let digits = row.text("timeline").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let timeline = Timeline::new(digits.ok_or(ServerError::Answer("timeline"))?);
        Ok(Self::Primary { timeline, flushed: row.value("flushed")? })
    }
}

impl Server {
    /// Where what is there of the log begins.
    pub(super) async fn log_begins(&self) -> Result<Option<Lsn>, ServerError> {
        self.0.disk.run(|files| Ok(files.histories()?.begins())).await
    }

    /// The log, where its end is known at once.
    pub(super) async fn wal(&self, session: &Local) -> Result<Option<Wal>, ServerError> {
        // Asked before: what is found to be all must be so when the positions are read.
        let found_no_more = session.row(FOUND_NO_MORE).await?.is("x")?;
        let positions = Positions::of(session).await?;
        let end = match positions {
            Positions::Standby { received: Some(received), replayed } => {
                replayed.map_or(received, |replayed| received.max(replayed))
            }
            Positions::Standby { received: None, replayed: Some(replayed) } if found_no_more => {
                replayed
            }
            Positions::Standby { received: None, .. } => return Ok(None),
            Positions::Primary { flushed, .. } => flushed,
        };
        let wal = self.0.disk.run(move |files| {
            Ok(match positions {
                Positions::Primary { timeline, .. } => files.histories()?.written(timeline, end)?,
                Positions::Standby { .. } => {
                    // Files of a timeline that it is being promoted to are nobody's log yet.
                    let promoting = files.promoting()?;
                    files.histories_but(promoting)?.received(end)?
                }
            })
        });
        wal.await.map(Some)
    }

    /// The log of a standby without a receiver, if its end comes to be known before long.
    pub(super) async fn settled_wal(&self) -> Result<Option<Wal>, ServerError> {
        let session = self.kept_session().await?;
        let until = Instant::now() + self.0.config.deadlines.log_end;
        loop {
            let wal = self.wal(&session).await?;
            if wal.is_some() || Instant::now() >= until {
                return Ok(wal);
            }
            sleep(LOOK).await;
        }
    }
}
