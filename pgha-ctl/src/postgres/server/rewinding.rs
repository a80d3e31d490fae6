//! The way back of a node whose log has what the cluster's has not (S6): `pg_rewind`, or else a new copy.
//!
//! ```text
//!   stopped cleanly --> own files kept --> marker: rewinding --> pg_rewind --> own files put back --+
//!                                               |                  | fails                          |
//!                                               |  interrupted     v                                v
//!                                               +--------> marker: copying --> pg_basebackup   marker: made
//!                                                              ^  |  beside the data                ^
//!                                                  interrupted +--+     |                           |
//!                                                                       v                           |
//!                                                             marker: copied --> directories swapped+
//! ```
//!
//! The marker is on disk before each step that would leave something half done, and names how far it came: the next
//! try goes on from there. While there is one, nothing is started but by this. `made` is the last: the directory is
//! whole, but becomes consistent only with WAL from the other node, so its first start streams.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgha_machine::{Lsn, NodeName, Wal};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::disk::{Files, remove};
use super::own_files;
use super::settings::{Conninfo, Settings};
use super::{Server, ServerError};
use crate::rpc::durable;

/// Between two questions to the other node.
const ASK: Duration = Duration::from_millis(200);

/// What is asked of the other node. The control file is what `pg_rewind` reads.
const SOURCE: &str = "SELECT (pg_control_system()).system_identifier, \
     (pg_control_checkpoint()).timeline_id, \
     CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END, \
     CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text ELSE '' END, \
     (SELECT coalesce(string_agg(spcname, ', '), '') FROM pg_tablespace \
      WHERE spcname NOT IN ('pg_default', 'pg_global'))";

/// How far a rewind came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `pg_rewind` may have written.
    Rewinding,
    /// `pg_basebackup` writes into a directory beside.
    Copying,
    /// A copy that is whole takes the place of the data directory, which is whole, too.
    Exchanging,
    /// It has, and that takes the place of the data directory.
    Copied,
    /// The data directory is whole, and has not been consistent yet.
    Made,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rewinding => "pg_rewind",
            Self::Copying => "a new copy",
            Self::Copied | Self::Exchanging => "the exchange for a new copy",
            Self::Made => "the first start after a rewind",
        })
    }
}

/// What the marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unfinished {
    pub(super) stage: Stage,
    from: NodeName,
}

impl Unfinished {
    /// Whether nothing but a start is left to do.
    pub(super) fn is_made(&self) -> bool {
        self.stage == Stage::Made
    }

    /// Whether the copy that takes the place of the data directory has all that this has: a start ends it.
    pub(super) fn is_exchanging(&self) -> bool {
        self.stage == Stage::Exchanging
    }
}

impl Files {
    /// What says that the data directory is not whole.
    pub(super) fn marker(&self) -> PathBuf {
        self.config.files().join("rewinding.json")
    }

    /// How far an interrupted rewind came.
    pub(super) fn unfinished(&self) -> Result<Option<Unfinished>, ServerError> {
        let path = self.marker();
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let text = read.map_err(ServerError::file("read", &path))?;
                let marker = serde_json::from_slice(&text).map_err(io::Error::from);
                marker.map(Some).map_err(ServerError::file("read", path))
            }
        }
    }

    pub(super) fn mark(&self, stage: Stage, from: &NodeName) -> Result<(), ServerError> {
        let path = self.marker();
        let marker = Unfinished { stage, from: from.clone() };
        let written = serde_json::to_vec(&marker)
            .map_err(io::Error::from)
            .and_then(|text| durable::replace(&path, &text, 0o600));
        written.map_err(ServerError::file("write", path))
    }

    pub(super) fn unmark(&self) -> Result<(), ServerError> {
        remove(&self.marker())
    }

    fn aside(&self) -> PathBuf {
        self.config.files().join("own-files")
    }

    pub(super) fn keep_own_files(&self) -> Result<(), ServerError> {
        let config = &self.config;
        let kept = own_files::keep(&config.data, &config.own_files, &self.aside());
        let kept =
            kept.map_err(ServerError::file("keep this node's own files of", &config.data))?;
        tracing::info!(
            "{} files of this node's own are kept in {}",
            kept.len(),
            self.aside().display()
        );
        Ok(())
    }

    fn clear_own_files(&self) -> Result<(), ServerError> {
        let config = &self.config;
        own_files::clear(&config.data, &config.own_files)
            .map_err(ServerError::file("clear of this node's own files", &config.data))
    }

    pub(super) fn put_back_own_files(&self, data: &Path) -> Result<(), ServerError> {
        own_files::put_back(&self.aside(), data, &self.config.own_files)
            .map_err(ServerError::file("put this node's own files into", data))
    }

    /// Where a new copy is made: beside the data directory, to be renamed.
    pub(super) fn copy(&self) -> PathBuf {
        self.config.data.with_added_extension("pgha-new")
    }

    /// An empty directory for a new copy.
    fn empty_room_for_copy(&self) -> Result<PathBuf, ServerError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let log = self.config.wal();
        if let Ok(to) = fs::read_link(&log) {
            return Err(ServerError::LinkedWal { link: log, to, data: self.config.data.clone() });
        }
        let copy = self.copy();
        let made =
            own_files::remove(&copy).and_then(|()| fs::DirBuilder::new().mode(0o700).create(&copy));
        made.map_err(ServerError::file("make", &copy))?;
        Ok(copy)
    }

    /// The copy takes the place of the data directory, which is kept under another name. Done again after an
    /// interruption, it goes on where it was.
    fn exchange(&self) -> Result<(), ServerError> {
        let (data, copy) = (&self.config.data, self.copy());
        if copy.exists() {
            if data.exists() {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let old = data.with_added_extension(format!("pgha-old-{}", now.as_secs()));
                fs::rename(data, &old).map_err(ServerError::file("rename", data))?;
                tracing::warn!("the former data directory is kept as {}", old.display());
            }
            fs::rename(&copy, data).map_err(ServerError::file("rename", copy))?;
        }
        let above = data.parent().unwrap_or(Path::new("/"));
        durable::sync(above).map_err(ServerError::file("sync", above))
    }
}

/// What the other node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    system: u64,
    /// How far a primary has flushed.
    pub(super) flushed: Option<Lsn>,
    /// Its control file is on the timeline that it writes.
    checkpointed: bool,
    tablespaces: String,
}

impl Server {
    /// Takes back what this node has and the cluster has not, by `pg_rewind` or else by a new copy, and leaves a
    /// standby that streams from nobody (`Command::Rewind`).
    ///
    /// # Errors
    /// What keeps it from that. Nothing runs then, and nothing half done is started; it can be tried again.
    pub async fn rewind(&self, from: &NodeName) -> Result<Option<Wal>, ServerError> {
        let source = self.source(from).await?;
        let stage = self.0.disk.run(|files| Ok(files.unfinished()?.map(|u| u.stage))).await?;
        let rewound = match stage {
            None => {
                self.same_cluster(from, &source).await?;
                self.try_rewind(from).await?
            }
            Some(Stage::Made) => true,
            Some(stage) => {
                tracing::warn!("{stage} was interrupted: this node is copied anew from {from}");
                false
            }
        };
        if !rewound {
            self.rebuild(from, &source, stage).await?;
        }
        let primary_conninfo = self.conninfo(from)?;
        self.begin_with(&Settings { primary_conninfo, ..Settings::default() }, &[]).await?;
        let wal = self.stop_streaming().await?;
        self.0.disk.run(Files::unmark).await?;
        Ok(wal)
    }

    /// A directory of another cluster is never touched.
    pub(super) async fn same_cluster(
        &self,
        node: &NodeName,
        source: &Source,
    ) -> Result<(), ServerError> {
        let (ours, theirs) = (self.system_identifier().await?, source.system);
        if ours == theirs {
            return Ok(());
        }
        let data = self.0.config.data.clone();
        Err(ServerError::OtherCluster { data, ours, node: node.clone(), theirs })
    }

    /// The system identifier of the data directory, whether or not PostgreSQL runs.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    pub async fn system_identifier(&self) -> Result<u64, ServerError> {
        let said = self.control_data().await?;
        let line = said.lines().find_map(|l| l.strip_prefix("Database system identifier:"));
        let identifier = line.and_then(|identifier| identifier.trim().parse().ok());
        identifier.ok_or(ServerError::Answer("system identifier"))
    }

    /// What `pg_controldata` says of the data directory.
    pub(super) async fn control_data(&self) -> Result<String, ServerError> {
        let config = &self.0.config;
        let arguments = ["-D".as_ref(), config.data.as_os_str()];
        self.tool("pg_controldata", arguments, config.deadlines.answer).await
    }

    /// Whether `pg_rewind` did it.
    async fn try_rewind(&self, from: &NodeName) -> Result<bool, ServerError> {
        let config = &self.0.config;
        self.stop_at_the_end().await?;
        let link = self.operators_hba().await?.link();
        let of = from.clone();
        self.0
            .disk
            .run(move |files| {
                files.keep_own_files()?;
                files.mark(Stage::Rewinding, &of)?;
                // They may be root's, which pg_rewind could not write over; and the link is a file at the other node.
                files.clear_own_files()?;
                remove(&link)
            })
            .await?;
        let source = Conninfo::to(self.peer(from)?, &config.rewind).to_string();
        let arguments = [
            "--no-ensure-shutdown".into(),
            "--target-pgdata".into(),
            config.data.clone().into_os_string(),
            "--source-server".into(),
            source.into(),
        ];
        tracing::info!("this node is rewound to {from}");
        if let Err(error) = self.tool("pg_rewind", arguments, config.deadlines.copy).await {
            tracing::warn!("this node is copied anew from {from}: {error}");
            return Ok(false);
        }
        let of = from.clone();
        self.0
            .disk
            .run(move |files| {
                files.put_back_own_files(&files.config.data)?;
                files.as_standby()?;
                files.mark(Stage::Made, &of)
            })
            .await?;
        Ok(true)
    }

    /// `pg_rewind` needs a clean end, and looks only at what was replayed: all of the log is, as a standby of nobody's,
    /// whatever delays replay.
    async fn stop_at_the_end(&self) -> Result<(), ServerError> {
        let within = self.0.config.deadlines.start;
        if self.run().is_ok() {
            self.stop().await?;
        }
        self.begin_standby(&["recovery_min_apply_delay=0"]).await?;
        let begun = Instant::now();
        while self.settled_wal().await?.is_none() {
            if begun.elapsed() >= within {
                let seen = self.startup(&*self.run()?);
                return Err(ServerError::Late { what: "the end of the log", within, seen });
            }
        }
        self.stop().await.map(drop)
    }

    /// Makes a new copy and has it take the place of the data directory.
    async fn rebuild(
        &self,
        from: &NodeName,
        source: &Source,
        stage: Option<Stage>,
    ) -> Result<(), ServerError> {
        if !matches!(stage, Some(Stage::Copied | Stage::Exchanging)) {
            let room = self.room_for_copy(from, source).await?;
            let of = from.clone();
            self.0.disk.run(move |files| files.mark(Stage::Copying, &of)).await?;
            self.base_backup(from, "tool", &room).await?;
            let of = from.clone();
            self.0
                .disk
                .run(move |files| {
                    files.put_back_own_files(&room)?;
                    files.mark(Stage::Copied, &of)
                })
                .await?;
        }
        let of = from.clone();
        self.0
            .disk
            .run(move |files| {
                files.exchange()?;
                files.as_standby()?;
                files.mark(Stage::Made, &of)
            })
            .await?;
        tracing::info!("this node is a new copy of {from}");
        Ok(())
    }

    /// An empty directory beside the data directory, where a copy would be what that is.
    pub(super) async fn room_for_copy(
        &self,
        from: &NodeName,
        source: &Source,
    ) -> Result<PathBuf, ServerError> {
        if !source.tablespaces.is_empty() {
            return Err(ServerError::Tablespaces {
                node: from.clone(),
                names: source.tablespaces.clone(),
                data: self.0.config.data.clone(),
            });
        }
        self.0.disk.run(Files::empty_room_for_copy).await
    }

    /// Copies another node's data directory, with all the log that the copy needs to be consistent.
    pub(super) async fn base_backup(
        &self,
        from: &NodeName,
        called: &'static str,
        room: &Path,
    ) -> Result<(), ServerError> {
        let config = &self.0.config;
        let source = Conninfo::to(self.peer(from)?, &config.replication).to_string();
        let options = ["--checkpoint=fast", "--wal-method=stream", "--progress", "--dbname"];
        let target = [source.into(), "--pgdata".into(), room.as_os_str().to_owned()];
        let arguments = options.map(OsString::from).into_iter().chain(target);
        self.tool_called(called, "pg_basebackup", arguments, config.deadlines.copy).await.map(drop)
    }

    /// Asks the other node, until its control file says that it is on its new timeline: before its first
    /// checkpoint there `pg_rewind` would find nothing to do (up to PostgreSQL 15).
    pub(super) async fn source(&self, from: &NodeName) -> Result<Source, ServerError> {
        let within = self.0.config.deadlines.catch_up;
        let begun = Instant::now();
        let mut asked = false;
        loop {
            let source = self.source_now(from).await?;
            if source.checkpointed {
                return Ok(source);
            }
            if !asked {
                asked = true;
                if let Err(error) = self.ask(from, "CHECKPOINT").await {
                    tracing::info!("{from} makes its first checkpoint by itself: {error}");
                }
            }
            if begun.elapsed() >= within {
                let seen = format!("it is not done: CHECKPOINT on {from}");
                let what = "the first checkpoint of the new timeline";
                return Err(ServerError::Late { what, within, seen });
            }
            sleep(ASK).await;
        }
    }

    /// What the other node says of itself now.
    pub(super) async fn source_now(&self, from: &NodeName) -> Result<Source, ServerError> {
        Source::read(&self.ask(from, SOURCE).await?)
    }

    /// Asks another node by psql, which connects as `pg_rewind` does.
    async fn ask(&self, node: &NodeName, sql: &str) -> Result<String, ServerError> {
        let config = &self.0.config;
        let source = Conninfo::to(self.peer(node)?, &config.rewind).with("connect_timeout", "5");
        let source = source.to_string();
        let arguments = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", source.as_str(), "-c", sql];
        self.tool("psql", arguments, config.deadlines.catch_up).await
    }
}

impl Source {
    fn read(row: &str) -> Result<Self, ServerError> {
        let mut columns = row.trim_end().split('|');
        let mut next = || columns.next().ok_or(ServerError::Answer("row"));
        let system = next()?.parse().map_err(|_| ServerError::Answer("system identifier"))?;
        let timeline: u32 = next()?.parse().map_err(|_| ServerError::Answer("timeline"))?;
        let written = next()?;
        let flushed = next()?;
        let flushed = match flushed {
            "" => None,
            lsn => Some(lsn.parse().map_err(|_| ServerError::Answer("flush position"))?),
        };
        let checkpointed =
            written.is_empty() || u32::from_str_radix(written, 16).is_ok_and(|w| w == timeline);
        Ok(Self { system, flushed, checkpointed, tablespaces: next()?.to_owned() })
    }
}
