//! Another set of voters: when PostgreSQL uses no other any more (S3).
//!
//! Each walsender reads the configuration for itself, and releases commits by what it has read. The processes are
//! told by a reload, and nothing outside shows that one has taken it in, but its replies do: a reply that came
//! after the second was dealt with by a walsender that has been through its loop in between, where it reads the
//! configuration first. Standbys reply to whatever they are sent, so they are sent something. A walsender that
//! shows nothing for a while is ended: its standby is gone, or comes back to one that begins with the new value.
//!
//! Whether a commit waits at all is decided by yet another process: it does when the checkpointer has noticed that
//! there is a list (`SyncRepUpdateSyncStandbysDefined`). [`Server::wait_for_checkpointer`] waits for that.
//!
//! Only walsenders with a priority count. It is the walsender itself that works it out of what it has read, and
//! without one it releases nothing (`SyncRepReleaseWaiters`).

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_machine::Lsn;
use pgha_machine::failover::voters::VoterSet;
use tokio::time::{Instant, sleep};

use super::log_end::Positions;
use super::process;
use super::session::Local;
use super::settings::standby_names;
use super::starting::LOOK;
use super::{Server, ServerError};

/// The walsenders that may release a commit: a name that is on no list has priority 0.
const WALSENDERS: &str = "SELECT pid, reply_time::text AS reply FROM pg_stat_replication \
     WHERE sync_priority > 0 AND state <> 'backup'";

/// Something to reply to, which waits for nobody itself.
const SAY: &str =
    "SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'pgha', '')";

/// What the checkpointer is at.
const CHECKPOINTER: &str = "SELECT pid, wait_event, \
     coalesce(wait_event IN ('CheckpointerMain', 'CheckpointWriteDelay'), false) AS waits \
     FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

/// What a walsender has shown.
#[derive(Debug)]
struct Shown {
    reply: Option<String>,
    newer: u32,
}

impl Server {
    /// Sets `synchronous_standby_names`, and returns when nothing is acknowledged by another any more: how far the
    /// log was flushed then (`Command::UseVoters`).
    ///
    /// # Errors
    /// Where PostgreSQL does not take it in in time.
    pub async fn use_voters(&self, voters: &VoterSet) -> Result<Lsn, ServerError> {
        let names = standby_names(voters, self.0.config.method);
        let begun = Instant::now();
        let shown = names.clone();
        let before = self.wait_for_standbys(names).await?;
        if before.is_empty() {
            self.wait_for_checkpointer().await?;
        }
        let session = self.kept_session().await?;
        self.wait_for_replies(&session).await?;
        match Positions::of(&session).await? {
            Positions::Primary { flushed, .. } => {
                let took = begun.elapsed().as_millis();
                tracing::info!("commits wait for {shown:?} from {flushed} on, after {took} ms");
                Ok(flushed)
            }
            Positions::Standby { .. } => Err(ServerError::InRecovery),
        }
    }

    async fn wait_for_replies(&self, session: &Local) -> Result<(), ServerError> {
        let deadlines = self.0.config.deadlines;
        let begun = Instant::now();
        let mut shown: BTreeMap<i32, Shown> = walsenders(session).await?;
        let mut ended = false;
        loop {
            session.rows(SAY).await?;
            let there = walsenders(session).await?;
            // One that began later began with the new value.
            shown.retain(|pid, _| there.contains_key(pid));
            for (pid, now) in there {
                if let Some(before) = shown.get_mut(&pid)
                    && before.reply != now.reply
                {
                    *before = Shown { reply: now.reply, newer: before.newer + 1 };
                }
            }
            shown.retain(|_, shown| shown.newer < 2);
            if shown.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= deadlines.answer {
                let seen = format!("walsenders {:?}", shown.keys());
                let what = "the replies of walsenders, or their end,";
                return Err(ServerError::Late { what, within: deadlines.answer, seen });
            }
            if begun.elapsed() >= deadlines.reply && !ended {
                ended = true;
                self.end_walsenders(&shown)?;
            }
            sleep(LOOK).await;
        }
    }

    /// Returns when the checkpointer has read the configuration as it is now.
    ///
    /// It is told by SIGHUP, and asleep again after that only when it has: in both of its own waits it goes by its
    /// latch, which the signal sets, and it reads the configuration between a latch that was set and the next wait. So
    /// it has, if the signal is not pending any more, and after that it is in such a wait, asleep, and still in one.
    ///
    /// # Errors
    /// Where it is busy for too long, as in the last part of a checkpoint.
    pub(super) async fn wait_for_checkpointer(&self) -> Result<(), ServerError> {
        let within = self.0.config.deadlines.answer;
        let session = self.kept_session().await?;
        let begun = Instant::now();
        let pid: i32 = session.row(CHECKPOINTER).await?.value("pid")?;
        let told = kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(std::io::Error::from);
        told.map_err(ServerError::file("signal", "the checkpointer"))?;
        loop {
            let taken = !process::is_pending(pid, Signal::SIGHUP);
            let before = session.row(CHECKPOINTER).await?;
            let asleep = process::is_asleep(pid);
            let after = session.row(CHECKPOINTER).await?;
            if taken && before.is("waits")? && asleep && after.is("waits")? {
                return Ok(());
            }
            if begun.elapsed() >= within {
                let seen = after.text("wait_event").unwrap_or("it works").to_owned();
                let what = "the checkpointer, by which commits come to wait,";
                return Err(ServerError::Late { what, within, seen });
            }
            sleep(LOOK).await;
        }
    }

    /// Ends walsenders of those who stream under the name of a node and are not it: until then PostgreSQL takes their
    /// replies for the node's.
    ///
    /// # Errors
    /// Where PostgreSQL does not run.
    pub fn end_impostors(&self, impostors: &BTreeSet<i32>) -> Result<(), ServerError> {
        let ours = self.run()?.cgroup.processes()?;
        for pid in impostors.iter().filter(|pid| ours.contains(pid)) {
            tracing::warn!(
                "walsender {pid} is ended: it streams under the name of a node, with a role that is not the node's; \
                 have it use another application_name"
            );
            // Gone already is what is wanted.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGTERM);
        }
        Ok(())
    }

    fn end_walsenders(&self, silent: &BTreeMap<i32, Shown>) -> Result<(), ServerError> {
        let ours = self.run()?.cgroup.processes()?;
        for pid in silent.keys().filter(|pid| ours.contains(pid)) {
            tracing::warn!(
                "walsender {pid} shows no reply and is ended: its standby may connect anew"
            );
            // Gone already is what is wanted.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGTERM);
        }
        Ok(())
    }
}

async fn walsenders(session: &Local) -> Result<BTreeMap<i32, Shown>, ServerError> {
    let rows = session.rows(WALSENDERS).await?;
    let shown = rows.iter().map(|row| {
        let reply = row.text("reply").map(str::to_owned);
        Ok((row.value("pid")?, Shown { reply, newer: 0 }))
    });
    shown.collect()
}
