//! What a server answers to `server.sql`.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use pgha_machine::balancer::{Claim, Connections, Standby, SyncState};
use pgha_machine::{Lsn, Timeline};
use tokio_postgres::SimpleQueryRow;

use super::PgError;

#[cfg(test)]
mod tests;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It is in recovery; its walsenders are told beside.
    Standby(Standby, Vec<NamedWalsender>),
    /// It is not.
    Primary(PrimaryReport),
}

/// What a primary says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryReport {
    /// The timeline it writes.
    pub timeline: Option<Timeline>,
    /// Its system identifier.
    pub system: Option<u64>,
    /// End of its WAL.
    pub lsn: Option<Lsn>,
    /// Its physical walsenders that stream.
    pub walsenders: Vec<NamedWalsender>,
    /// Whether the role may see what walsenders do. If not, there may be others than those told.
    pub told_all: bool,
}

impl PrimaryReport {
    /// By what it claims to be the primary.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        Claim { timeline: self.timeline, system: self.system }
    }
}

/// A streaming walsender as its server names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedWalsender {
    /// What the standby calls itself.
    pub application_name: String,
    /// Where it connects from; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// Its part in synchronous commit.
    pub sync_state: SyncState,
    /// How long the last commits took to be replayed there; `None` while nothing is written.
    pub replay_lag: Option<Duration>,
    /// End of the WAL it has replayed.
    pub replayed: Option<Lsn>,
}

/// A row of the answer: the text of a column, `None` for null.
pub(super) trait Row {
    fn text(&self, column: &str) -> Option<&str>;
}

impl Row for SimpleQueryRow {
    fn text(&self, column: &str) -> Option<&str> {
        self.try_get(column).ok().flatten()
    }
}

impl Report {
    /// Reads the rows of an answer.
    pub(super) fn read<'r, R: Row + 'r>(
        rows: impl IntoIterator<Item = &'r R>,
    ) -> Result<Self, PgError> {
        let rows: Vec<&R> = rows.into_iter().collect();
        let me = rows.first().ok_or(PgError::Answer("row"))?;
        let there = || rows.iter().filter(|row| row.text("pid").is_some());
        let walsenders = there()
            .filter(|row| row.text("state") == Some("streaming"))
            .filter_map(|row| walsender(*row));
        match me.text("in_recovery") {
            Some("t") => Ok(Self::Standby(standby(*me), walsenders.collect())),
            Some("f") => Ok(Self::Primary(PrimaryReport {
                timeline: me.text("written_timeline").and_then(hexadecimal).map(Timeline::new),
                system: read(*me, "system"),
                lsn: read(*me, "lsn"),
                walsenders: walsenders.collect(),
                told_all: there().all(|row| row.text("state").is_some()),
            })),
            _ => Err(PgError::Answer("in_recovery")),
        }
    }
}

/// Without its walsenders: whose they are is not known here.
fn standby(me: &impl Row) -> Standby {
    let connections = read(me, "used").zip(read(me, "most"));
    Standby {
        received: read(me, "received"),
        replayed: read(me, "replayed"),
        timeline: read(me, "followed_timeline").map(Timeline::new),
        system: read(me, "system"),
        age: milliseconds(me, "age_ms"),
        receiving: me.text("receiving") == Some("t"),
        connections: connections.map(|(used, most)| Connections { used, most }),
        walsenders: Vec::new(),
    }
}

fn walsender(row: &impl Row) -> Option<NamedWalsender> {
    Some(NamedWalsender {
        application_name: row.text("application_name").unwrap_or_default().to_owned(),
        client: read(row, "client"),
        sync_state: match row.text("sync_state")? {
            "async" => SyncState::Async,
            "potential" => SyncState::Potential,
            "sync" => SyncState::Sync,
            "quorum" => SyncState::Quorum,
            _ => return None,
        },
        replay_lag: milliseconds(row, "replay_lag_ms"),
        replayed: read(row, "replay_lsn"),
    })
}

fn read<T: FromStr>(row: &impl Row, column: &str) -> Option<T> {
    row.text(column)?.parse().ok()
}

/// A clock that is behind makes an age negative: it is none then.
fn milliseconds(row: &impl Row, column: &str) -> Option<Duration> {
    let count: i64 = read(row, column)?;
    Some(Duration::from_millis(u64::try_from(count).unwrap_or_default()))
}

/// The first eight digits of a WAL file's name (PostgreSQL documentation, "WAL Internals").
fn hexadecimal(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}
