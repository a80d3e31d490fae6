//! A copy of another node's data directory, made beside this node's while PostgreSQL runs on, and the exchange of the
//! two: for a standby that the other has left behind (`pgha_machine::failover::agent::Stranded`).
//!
//! ```text
//!   copy:      pg_basebackup beside the data --> it is noted that all of it is there, and of whom
//!   exchange:  stopped --> own files into the copy --> marker: exchanging --> directories renamed --> started
//! ```
//!
//! An exchange that is interrupted after the marker is ended by the next start. The former directory has nothing that
//! the copy has not; it is kept until the node streams from the other again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgha_machine::{Lsn, NodeName, Wal};

use super::disk::{Files, remove};
use super::own_files;
use super::rewinding::Stage;
use super::{Server, ServerError};
use crate::rpc::durable;

/// Whether this node streams. A receiver counts as streaming before it hears that there is nothing to stream.
const STREAMS: &str = "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver \
     WHERE status = 'streaming' AND flushed_lsn > receive_start_lsn) AS x";

/// What `pg_basebackup --progress` says, such as `24611/82944 kB (29%), 0/1 tablespace`.
const PROGRESS: &str = " kB (";

impl Files {
    /// What says that a copy is whole, and of whom.
    fn copied(&self) -> PathBuf {
        self.config.files().join("copied.json")
    }

    /// Where the former data directory is kept.
    fn behind(&self) -> PathBuf {
        self.config.data.with_added_extension("pgha-behind")
    }

    fn note_copy(&self, of: &NodeName) -> Result<(), ServerError> {
        let path = self.copied();
        let written = serde_json::to_vec(of)
            .map_err(io::Error::from)
            .and_then(|text| durable::replace(&path, &text, 0o600));
        written.map_err(ServerError::file("write", path))
    }

    fn has_copy(&self, of: &NodeName) -> Result<(), ServerError> {
        let path = self.copied();
        let text = fs::read(&path).map_err(ServerError::file("read", &path))?;
        let whose: NodeName = serde_json::from_slice(&text)
            .map_err(io::Error::from)
            .map_err(ServerError::file("read", &path))?;
        if whose == *of {
            return Ok(());
        }
        let other = io::Error::other(format!("it is a copy of {whose}"));
        Err(ServerError::file("use the copy by", path)(other))
    }

    /// The copy takes the place of the data directory. Done again after an interruption, it goes on where it was.
    pub(super) fn end_exchange(&self) -> Result<(), ServerError> {
        let (data, copy, behind) = (&self.config.data, self.copy(), self.behind());
        if copy.exists() {
            if data.exists() {
                own_files::remove(&behind).map_err(ServerError::file("remove", &behind))?;
                fs::rename(data, &behind).map_err(ServerError::file("rename", data))?;
            }
            fs::rename(&copy, data).map_err(ServerError::file("rename", copy))?;
        }
        let above = data.parent().unwrap_or(Path::new("/"));
        durable::sync(above).map_err(ServerError::file("sync", above))?;
        remove(&self.copied())?;
        self.unmark()?;
        tracing::warn!(
            "a copy has taken the place of {}; what was there is kept as {} until this node streams",
            data.display(),
            behind.display()
        );
        Ok(())
    }
}

impl Server {
    /// Makes a copy of that node's data directory beside this node's, which nothing else is changed by. How far its log
    /// goes at least. Given up, nothing of it goes on.
    ///
    /// # Errors
    /// What keeps it from that.
    pub async fn copy(&self, from: &NodeName) -> Result<Lsn, ServerError> {
        let _one_at_a_time = self.0.copying.lock().await;
        self.0.cgroups.kill_those("copy", self.0.config.deadlines.kill).await?;
        self.0.disk.run(|files| remove(&files.copied())).await?;
        let source = self.source_now(from).await?;
        self.same_cluster(from, &source).await?;
        let to = source.flushed.ok_or(ServerError::Answer("position of a primary"))?;
        let room = self.room_for_copy(from, &source).await?;
        self.base_backup(from, "copy", &room).await?;
        let of = from.clone();
        self.0.disk.run(move |files| files.note_copy(&of)).await?;
        Ok(to)
    }

    /// How far a copy that is being made has come, as `pg_basebackup` says it.
    #[must_use]
    pub fn copy_progress(&self) -> Option<String> {
        let said = fs::read_to_string(self.0.config.runtime.join("pg_basebackup.out")).ok()?;
        let line = said.lines().rev().find(|line| line.contains(PROGRESS))?;
        let end = line.find(')').map_or(line.len(), |at| at + 1);
        Some(line[..end].trim().to_owned())
    }

    /// Stops PostgreSQL, has the copy of that node take the place of the data directory, and starts as a standby of
    /// nobody (`Command::Exchange`).
    ///
    /// # Errors
    /// Where there is no such copy, or what keeps it from that; the next start goes on with it then.
    pub async fn exchange(&self, from: &NodeName) -> Result<Option<Wal>, ServerError> {
        let of = from.clone();
        self.0.disk.run(move |files| files.has_copy(&of)).await?;
        if self.run().is_ok() {
            self.stop().await?;
        }
        let of = from.clone();
        self.0
            .disk
            .run(move |files| {
                files.keep_own_files()?;
                files.put_back_own_files(&files.copy())?;
                files.mark(Stage::Exchanging, &of)
            })
            .await?;
        self.start().await
    }

    /// Removes what a standby had before an exchange, once it streams. Beside everything else: it may take long.
    pub fn forget_what_was_behind(&self) {
        let Ok(turn) = Arc::clone(&self.0.copying).try_lock_owned() else { return };
        let server = self.clone();
        tokio::spawn(async move {
            let _turn = turn;
            if let Err(error) = server.remove_what_was_behind().await {
                tracing::warn!("what this node had before is kept: {error}");
            }
        });
    }

    async fn remove_what_was_behind(&self) -> Result<(), ServerError> {
        let behind = self.0.config.data.with_added_extension("pgha-behind");
        let there = {
            let behind = behind.clone();
            self.0.disk.run(move |_| Ok(behind.exists())).await?
        };
        if !there || !self.kept_session().await?.row(STREAMS).await?.is("x")? {
            return Ok(());
        }
        let (user, path) = (self.0.user.clone(), behind.clone());
        let removed = tokio::task::spawn_blocking(move || {
            user.with_files(|| own_files::remove(&path)).flatten()
        });
        let removed = removed.await.map_err(io::Error::other).flatten();
        removed.map_err(ServerError::file("remove", &behind))?;
        tracing::info!("{} is removed: this node streams, and has all of it", behind.display());
        Ok(())
    }
}
