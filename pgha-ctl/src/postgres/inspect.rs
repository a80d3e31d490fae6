//! What `pgha check` asks a server: more than the balancer needs, and only once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use super::{Connector, PgError, Server, Session};

const INSPECT: &str = include_str!("inspect.sql");
const SETTINGS: &str = include_str!("settings.sql");
const WALSENDERS: &str = include_str!("inspect_walsenders.sql");

/// What a server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// `server_version_num`, such as 150004.
    pub version: u32,
    /// Whether it is in recovery: a standby.
    pub in_recovery: bool,
    /// The system identifier: the same for all servers of one cluster, and for nobody else.
    pub system: Option<u64>,
    /// The timeline that it is on.
    pub timeline: Option<u32>,
    /// Whether the role is a member of `pg_monitor`.
    pub monitor: bool,
    /// Settings by name, in the units of `pg_settings`.
    pub settings: BTreeMap<String, String>,
    /// Its walsenders.
    pub walsenders: Vec<SeenWalsender>,
}

/// A walsender, of whatever kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenWalsender {
    /// What the other end calls itself.
    pub application_name: String,
    /// Where it connects from; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// Such as `streaming`; `None` for a role that may not see it.
    pub state: Option<String>,
    /// Such as `async`.
    pub sync_state: Option<String>,
    /// It decodes: no standby.
    pub logical: bool,
}

/// Logs in and asks, all within `timeout`.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn inspect(
    connector: &Connector,
    server: Server,
    timeout: Duration,
) -> Result<Inspection, PgError> {
    super::within(timeout, async {
        let session = Session::open(connector, server, timeout).await?;
        let rows = session.rows(INSPECT).await?;
        let me = rows.first().ok_or(PgError::Answer("row"))?;
        let settings = session.rows(SETTINGS).await?;
        let walsenders = session.rows(WALSENDERS).await?;
        let number = |column: &'static str| me.get(column).and_then(|text| text.parse().ok());
        Ok(Inspection {
            version: number("version").ok_or(PgError::Answer("server_version_num"))?,
            in_recovery: me.get("in_recovery") == Some("t"),
            system: me.get("system").and_then(|text| text.parse().ok()),
            timeline: number("timeline"),
            monitor: me.get("monitor") == Some("t"),
            settings: settings.iter().filter_map(setting).collect(),
            walsenders: walsenders.iter().map(walsender).collect(),
        })
    })
    .await?
}

fn setting(row: &SimpleQueryRow) -> Option<(String, String)> {
    Some((row.get("name")?.to_owned(), row.get("setting")?.to_owned()))
}

fn walsender(row: &SimpleQueryRow) -> SeenWalsender {
    let text = |column: &str| row.get(column).map(str::to_owned);
    SeenWalsender {
        application_name: text("application_name").unwrap_or_default(),
        client: row.get("client").and_then(|client| client.parse().ok()),
        state: text("state"),
        sync_state: text("sync_state"),
        logical: row.get("logical") == Some("t"),
    }
}
