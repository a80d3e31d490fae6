//! What is to be known of the server while it runs, asked in one session that is kept.

use std::collections::{BTreeMap, BTreeSet};

use pgha_machine::{Lsn, NodeName, Wal};

use super::config::Peer;
use super::facts::Facts;
use super::session::{Answer, Local};
use super::{Server, ServerError};

#[cfg(test)]
mod tests;

const STANDBYS: &str = include_str!("standbys.sql");
const LOWERED: &str = include_str!("lowered.sql");

/// What rewind, and a quorum that proves something, need of the server's settings.
const SETTINGS: &str = "SELECT current_setting('wal_log_hints') = 'on' OR current_setting('data_checksums') = 'on' \
     AS rewindable, pg_is_in_recovery() AS in_recovery, \
     nullif(current_setting('restore_command'), '') AS restore_command";

/// A look at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// Its log; `None` while its end is not known.
    pub wal: Option<Wal>,
    /// Who streams from it.
    pub standbys: Standbys,
}

/// Who streams from a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standbys {
    /// Nodes, each by the role that is its own, and how far each has flushed.
    pub flushed: BTreeMap<NodeName, Lsn>,
    /// Nodes under whose names there is somebody else besides, or instead: PostgreSQL would take their replies
    /// for the node's.
    pub impersonated: BTreeSet<NodeName>,
    /// Their walsenders: those of roles that are not the node's.
    pub impostors: BTreeSet<i32>,
}

/// Looks at one server, again and again.
#[derive(Debug)]
pub struct Watch {
    server: Server,
    session: Option<Local>,
}

impl Watch {
    /// Of that server. Each has a session of its own.
    #[must_use]
    pub const fn of(server: Server) -> Self {
        Self { server, session: None }
    }

    /// How it is now. After an error the next look begins another session.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn look(&mut self) -> Result<Seen, ServerError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.server.session().await?,
        };
        let rows = session.rows(STANDBYS).await?;
        let in_recovery = session.row(SETTINGS).await?.is("in_recovery")?;
        let wal = self.server.wal(&session).await?;
        let standbys = Standbys::read(&self.server.config().peers, &rows)?;
        self.session = Some(session);
        Ok(Seen { in_recovery, wal, standbys })
    }

    /// What a person wants to know of it.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn facts(&mut self) -> Result<Facts, ServerError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.server.session().await?,
        };
        let facts = Facts::ask(&session).await?;
        self.session = Some(session);
        Ok(facts)
    }

    /// What keeps this server's quorum from proving anything, and its data from being rewound; each in a sentence.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn objections(&mut self) -> Result<Objections, ServerError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.server.session().await?,
        };
        let rows = session.rows(LOWERED).await?;
        let lowered =
            rows.iter().filter_map(|row| row.text("lowered").map(str::to_owned)).collect();
        let settings = session.row(SETTINGS).await?;
        let begins = self.server.log_begins().await?;
        self.session = Some(session);
        Ok(Objections {
            lowered,
            begins,
            restore_command: settings.text("restore_command").map(str::to_owned),
            rewindable: settings.is("rewindable")?,
        })
    }
}

/// Settings that go against what the agent promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objections {
    /// By these a commit is acknowledged that no voter has: no quorum proves anything.
    pub lowered: Vec<String>,
    /// By this a standby gets WAL past its receiver: that it has stopped proves nothing.
    pub restore_command: Option<String>,
    /// Where what is there of the log begins: who needs what came before cannot stream from here.
    pub begins: Option<Lsn>,
    /// `pg_rewind` works: `wal_log_hints` is on, or checksums are.
    pub rewindable: bool,
}

impl Standbys {
    fn read(peers: &BTreeMap<NodeName, Peer>, rows: &[Answer]) -> Result<Self, ServerError> {
        let walsenders = rows.iter().map(|row| {
            Ok(Walsender {
                pid: row.value("pid")?,
                name: row.text("name").unwrap_or_default(),
                role: row.text("role").unwrap_or_default(),
                streams: row.text("state") == Some("streaming"),
                flushed: row.maybe("flushed")?,
            })
        });
        Ok(Self::of(peers, walsenders.collect::<Result<Vec<_>, ServerError>>()?))
    }

    /// PostgreSQL compares names without regard to case (`SyncRepGetStandbyPriority`).
    fn of<'w>(
        peers: &BTreeMap<NodeName, Peer>,
        walsenders: impl IntoIterator<Item = Walsender<'w>>,
    ) -> Self {
        let mut standbys = Self::default();
        let mut met = BTreeSet::new();
        for walsender in walsenders {
            let named =
                |(node, _): &(&NodeName, &Peer)| node.as_str().eq_ignore_ascii_case(walsender.name);
            let Some((node, peer)) = peers.iter().find(named) else { continue };
            let own = walsender.role == peer.role;
            if !met.insert(node) || !own {
                standbys.impersonated.insert(node.clone());
            }
            // Two of the node's own role may be one that has come back before its former connection was missed.
            if !own {
                standbys.impostors.insert(walsender.pid);
            }
            if let (true, true, Some(flushed)) = (own, walsender.streams, walsender.flushed) {
                let known = standbys.flushed.entry(node.clone()).or_insert(flushed);
                // Of two, what both have.
                *known = flushed.min(*known);
            }
        }
        standbys
    }
}

/// A walsender as the server tells of it.
#[derive(Clone, Copy, Debug)]
struct Walsender<'w> {
    pid: i32,
    name: &'w str,
    role: &'w str,
    streams: bool,
    flushed: Option<Lsn>,
}
