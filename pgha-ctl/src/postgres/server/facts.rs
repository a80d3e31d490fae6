//! What a person wants to know of a server that runs. Nothing is decided by it.

use pgha_machine::Lsn;
use serde::{Deserialize, Serialize};

use super::ServerError;
use super::session::Local;

const FACTS: &str = include_str!("facts.sql");
const WALSENDERS: &str = include_str!("walsenders.sql");

/// How a server is, by its own word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// Up to where a standby has received its log since it was started.
    pub received: Option<Lsn>,
    /// Up to where it has flushed its log; of a standby, what its receiver has.
    pub flushed: Option<Lsn>,
    /// Up to where a standby has replayed it.
    pub replayed: Option<Lsn>,
    /// What the WAL receiver does (`pg_stat_wal_receiver.status`); missing where there is none.
    pub receiver: Option<String>,
    /// Who streams from it.
    pub walsenders: Vec<Walsender>,
}

/// Somebody who streams, by `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walsender {
    /// `application_name`.
    pub name: String,
    /// `streaming`, `catchup`, and what else PostgreSQL says.
    pub state: String,
    /// `sync`, `quorum`, `potential` or `async`.
    pub sync_state: String,
    /// Up to where it has flushed.
    pub flushed: Option<Lsn>,
    /// Up to where it has replayed.
    pub replayed: Option<Lsn>,
    /// How long what was replayed last took, in milliseconds; missing where nothing was written for a while.
    pub lag_ms: Option<u64>,
}

impl Facts {
    /// Asks for them.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub(super) async fn ask(session: &Local) -> Result<Self, ServerError> {
        let own = session.row(FACTS).await?;
        let mut walsenders = Vec::new();
        for row in session.rows(WALSENDERS).await? {
            let text = |column| row.text(column).unwrap_or_default().to_owned();
            walsenders.push(Walsender {
                name: text("name"),
                state: text("state"),
                sync_state: text("sync_state"),
                flushed: row.maybe("flushed")?,
                replayed: row.maybe("replayed")?,
                lag_ms: row.maybe("lag_ms")?,
            });
        }
        Ok(Self {
            in_recovery: own.is("in_recovery")?,
            received: own.maybe("received")?,
            flushed: own.maybe("flushed")?,
            replayed: own.maybe("replayed")?,
            receiver: own.text("receiver").map(str::to_owned),
            walsenders,
        })
    }
}
