//! A promotion that was begun and did not come to its end: what it left, and what becomes of that.
//!
//! On its way out of recovery PostgreSQL makes the first WAL file of the new timeline, removes `standby.signal`,
//! writes the timeline's history, and only then the first entry of its own and the control file (`StartupXLOG`). One
//! that is killed in between leaves files of a timeline that nobody has written. A start as a standby would take that
//! for the newest timeline and then follow no other, and a start as the primary would go on with the *former*
//! timeline, which may be another's by now. So the number is on disk before PostgreSQL is asked, and the next start
//! looks into the control file, which PostgreSQL has written before it takes any commit: with that timeline in it the
//! promotion has happened; without it what is there of the timeline is removed.

use std::fs;
use std::io;
use std::path::PathBuf;

use pgha_machine::Timeline;

use super::disk::{Files, remove};
use super::history::{file_name, is_file_of};
use super::{Server, ServerError};
use crate::rpc::durable;

/// The lines of `pg_controldata` that say which timelines the server has been on.
const REACHED: [&str; 2] =
    ["Latest checkpoint's TimeLineID:", "Min recovery ending loc's timeline:"];

impl Files {
    fn promotion(&self) -> PathBuf {
        self.config.files().join("promoting.json")
    }

    /// The timeline of a promotion that was begun, and of which nobody knows what came of it.
    pub(super) fn promoting(&self) -> Result<Option<Timeline>, ServerError> {
        let path = self.promotion();
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let text = read.map_err(ServerError::file("read", &path))?;
                let timeline = serde_json::from_slice(&text).map_err(io::Error::from);
                timeline.map(Some).map_err(ServerError::file("read", path))
            }
        }
    }

    /// PostgreSQL is about to be asked for a timeline that is nobody's yet.
    pub(super) fn promotion_begins(&self, timeline: Timeline) -> Result<(), ServerError> {
        let path = self.promotion();
        let written = serde_json::to_vec(&timeline)
            .map_err(io::Error::from)
            .and_then(|text| durable::replace(&path, &text, 0o600));
        written.map_err(ServerError::file("write", path))
    }

    /// PostgreSQL writes it, or none of it is left.
    pub(super) fn promotion_is_over(&self) -> Result<(), ServerError> {
        remove(&self.promotion())
    }

    /// Removes what there is of a timeline that nobody has written.
    fn forget(&self, timeline: Timeline) -> Result<(), ServerError> {
        let log = self.config.wal();
        let listed = || -> io::Result<Vec<String>> {
            let names = fs::read_dir(&log)?.map(|entry| Ok(entry?.file_name().into_string()));
            Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
        };
        let names = listed().map_err(ServerError::file("list", &log))?;
        // The history at last: without it the rest is nobody's timeline.
        let files = names.iter().filter(|name| is_file_of(name, timeline));
        files.map(|name| log.join(name)).try_for_each(|path| remove(&path))?;
        remove(&log.join(file_name(timeline)))
    }
}

impl Server {
    /// Before a start: what came of a promotion that nobody saw the end of.
    ///
    /// # Errors
    /// Where PostgreSQL was never promoted, and is to come up as the primary.
    pub(super) async fn settle_promotion(&self, as_primary: bool) -> Result<(), ServerError> {
        let Some(timeline) = self.0.disk.run(Files::promoting).await? else {
            return Ok(());
        };
        let reached = self.reached().await?;
        if reached < timeline && as_primary {
            return Err(ServerError::Unpromoted { timeline, reached });
        }
        let forgotten = self.0.disk.run(move |files| {
            if reached < timeline {
                files.forget(timeline)?;
            }
            files.promotion_is_over()
        });
        forgotten.await?;
        if reached < timeline {
            tracing::warn!(
                "the promotion to timeline {timeline} was killed before PostgreSQL wrote any of it: it is forgotten"
            );
        } else {
            tracing::info!("PostgreSQL was promoted to timeline {timeline} before it ended");
        }
        Ok(())
    }

    /// The newest timeline that the server has been on, by its control file.
    async fn reached(&self) -> Result<Timeline, ServerError> {
        let said = self.control_data().await?;
        let lines = said.lines().filter_map(|line| {
            let value = REACHED.iter().find_map(|name| line.strip_prefix(name))?;
            value.trim().parse().ok()
        });
        lines.max().map(Timeline::new).ok_or(ServerError::Answer("timeline in its control file"))
    }
}
