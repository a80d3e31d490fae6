//! Streaming from another node, and from nobody.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgha_machine::{NodeName, Position, Wal};
use tokio::time::{Instant, sleep};

use super::log_end::Positions;
use super::session::Local;
use super::settings::{Conninfo, Settings};
use super::starting::LOOK;
use super::{Server, ServerError};

/// How long a receiver may take to end by itself after a reload, which it does not while replay is paused.
const BY_ITSELF: Duration = Duration::from_millis(50);

/// What PostgreSQL has of a setting, and whose that is.
const SETTING: &str = "SELECT setting, coalesce(sourcefile, 'the command line or a session') AS source_file \
     FROM pg_settings WHERE name = ";

impl Server {
    /// Streams from that node, by reload (`Command::Follow`). That it gets there is for the log to show.
    ///
    /// # Errors
    /// When PostgreSQL does not run or does not take it in.
    pub async fn follow(&self, node: &NodeName) -> Result<(), ServerError> {
        let conninfo = self.conninfo(node)?;
        self.0.disk.run(|files| files.valve(true)).await?;
        self.stream_by(conninfo).await?;
        tracing::info!("PostgreSQL is to stream from {node}");
        Ok(())
    }

    /// Ends every receiver, and lets none begin. Then the log is read (`Command::StopStreaming`).
    ///
    /// # Errors
    /// Where a receiver goes on, or PostgreSQL does not answer.
    pub async fn stop_streaming(&self) -> Result<Option<Wal>, ServerError> {
        self.end_receivers().await?;
        let wal = self.settled_wal().await?;
        match &wal {
            Some(Wal { end, .. }) => {
                tracing::info!(
                    "PostgreSQL streams from nobody; its log ends at {} of timeline {}",
                    end.lsn,
                    end.timeline
                );
            }
            None => tracing::info!(
                "PostgreSQL streams from nobody; where its log ends is not known yet"
            ),
        }
        Ok(wal)
    }

    /// Streams from another node until the log contains `to`, then stops (`Command::CatchUp`).
    ///
    /// # Errors
    /// Where the other has not so much, or it takes too long; it streams from nobody then, too.
    pub async fn catch_up(
        &self,
        from: &NodeName,
        to: Position,
    ) -> Result<Option<Wal>, ServerError> {
        self.follow(from).await?;
        let reached = self.wait_for_wal(from, to).await;
        let wal = self.stop_streaming().await?;
        reached.map(|()| wal)
    }

    async fn wait_for_wal(&self, from: &NodeName, to: Position) -> Result<(), ServerError> {
        let within = self.0.config.deadlines.catch_up;
        let session = self.kept_session().await?;
        let begun = Instant::now();
        loop {
            let wal = self.wal(&session).await?;
            if wal.as_ref().is_some_and(|wal| wal.contains(to)) {
                return Ok(());
            }
            if begun.elapsed() >= within {
                let at = wal.map_or(pgha_machine::Lsn::new(0), |wal| wal.end.lsn);
                return Err(ServerError::Short { node: from.clone(), at, to: to.lsn });
            }
            sleep(LOOK).await;
        }
    }

    /// Streams from nobody: when this returns, no receiver is there, and none can connect.
    pub(super) async fn end_receivers(&self) -> Result<(), ServerError> {
        let deadlines = self.0.config.deadlines;
        // First of all, so that whoever looks for the service from here on finds none.
        self.0.disk.run(|files| files.valve(false)).await?;
        let run = self.run()?;
        let begun = Instant::now();
        self.stream_by(String::new()).await?;
        loop {
            let receivers = self.receivers(&run);
            if receivers.is_empty() {
                return Ok(());
            }
            if run.postmaster.has_ended() {
                return Err(self.obituary("while its receiver was ended"));
            }
            if begun.elapsed() >= deadlines.answer {
                let seen = format!("receivers {receivers:?}");
                return Err(ServerError::Late {
                    what: "the end of WAL receivers",
                    within: deadlines.answer,
                    seen,
                });
            }
            if begun.elapsed() >= BY_ITSELF {
                for receiver in receivers {
                    // Gone already is what is wanted.
                    let _ = kill(Pid::from_raw(receiver), Signal::SIGTERM);
                }
            }
            sleep(LOOK).await;
        }
    }

    fn receivers(&self, run: &super::Run) -> Vec<i32> {
        let titles = self.titles(run).into_iter();
        titles.filter(|(_, title)| title.starts_with("walreceiver")).map(|(pid, _)| pid).collect()
    }

    /// By what this node streams from another.
    pub(super) fn conninfo(&self, node: &NodeName) -> Result<String, ServerError> {
        let config = &self.0.config;
        let conninfo = Conninfo::to(self.peer(node)?, &config.replication);
        Ok(conninfo.streaming(&config.node).to_string())
    }

    /// From whom it is to stream, by its settings.
    pub(super) fn upstream(&self, settings: &Settings) -> Option<NodeName> {
        let is = |node: &&NodeName| {
            self.conninfo(node).is_ok_and(|conninfo| conninfo == settings.primary_conninfo)
        };
        self.0.config.peers.keys().find(is).cloned()
    }

    /// Has it stream by another connection string, and returns when that is the one that counts.
    async fn stream_by(&self, conninfo: String) -> Result<(), ServerError> {
        let shown = conninfo.clone();
        self.change(|settings| settings.primary_conninfo = conninfo).await?;
        let session = self.kept_session().await?;
        let within = self.0.config.deadlines.answer;
        let begun = Instant::now();
        while !shows(&session, "primary_conninfo", &shown, begun.elapsed() >= within).await? {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Has commits wait for others, and returns when a new session shows them: the postmaster has them then.
    /// Whom they waited for before.
    pub(super) async fn wait_for_standbys(&self, names: String) -> Result<String, ServerError> {
        let shown = names.clone();
        let before = self.change(|settings| settings.synchronous_standby_names = names).await?;
        let within = self.0.config.deadlines.answer;
        let begun = Instant::now();
        let late = || begun.elapsed() >= within;
        while !shows(&self.session().await?, "synchronous_standby_names", &shown, late()).await? {
            sleep(LOOK).await;
        }
        Ok(before.synchronous_standby_names)
    }

    /// Writes the settings changed, and has them read; what they were.
    async fn change(
        &self,
        change: impl FnOnce(&mut Settings) + Send + 'static,
    ) -> Result<Settings, ServerError> {
        let changed = self.0.disk.run(|files| {
            let before = files.settings()?;
            let mut settings = before.clone();
            change(&mut settings);
            files.set(&settings)?;
            files.mend_auto_conf()?;
            Ok(before)
        });
        let before = changed.await?;
        self.reload()?;
        Ok(before)
    }

    /// How far it is.
    pub(super) async fn positions(&self) -> Result<Positions, ServerError> {
        Positions::of(&*self.kept_session().await?).await
    }
}

/// Whether a session has that value of a setting; an error, where it should by now.
async fn shows(
    session: &Local,
    name: &'static str,
    value: &str,
    late: bool,
) -> Result<bool, ServerError> {
    let row = session.row(&format!("{SETTING}'{name}'")).await?;
    let shown = row.text("setting").unwrap_or_default();
    if shown != value && late {
        let source_file = row.text("source_file").unwrap_or_default().to_owned();
        return Err(ServerError::Overridden { name, value: shown.to_owned(), source_file });
    }
    Ok(shown == value)
}
