//! What an agent has done to PostgreSQL, and what comes of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failover::record::Progress;
use crate::failover::timing::Timings;
use crate::failover::voters::VoterSet;
use crate::{Epoch, Lsn, Mark, Moment, NodeName, Position, Timeline, Wal};

/// What is to be done to PostgreSQL on this node. One at a time; [`Command::Kill`] ends whatever is under
/// way. Each may be given again after a crash in the middle of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Write this to disk, and fsync it.
    Keep(Kept),
    /// Start PostgreSQL as a standby that streams from nobody, in a new cgroup whose gate is open.
    Start,
    /// Start PostgreSQL after a crash, in a new cgroup whose gate is open as long as it was armed for last, as
    /// the primary that it was: it admits replication and the agent, and no client (S7).
    Restart {
        /// `synchronous_standby_names`.
        voters: VoterSet,
    },
    /// Have every WAL receiver ended, and let none begin: `primary_conninfo` empty and reloaded, SIGTERM to
    /// one that is still there. Only then the end of the log is read.
    StopStreaming,
    /// Stream from another frozen node up to a position, then as [`Command::StopStreaming`].
    CatchUp {
        /// From whom.
        from: NodeName,
        /// Up to where.
        to: Position,
    },
    /// Stream from another node.
    Follow {
        /// From whom.
        of: NodeName,
        /// The epoch in which it is the primary.
        epoch: Epoch,
    },
    /// Take back what this node has and the cluster has not (`pg_rewind`, or a new copy), and start as
    /// after [`Command::Start`].
    Rewind {
        /// From whom.
        from: NodeName,
    },
    /// Stop PostgreSQL, have the copy that was made of another node take the place of the data directory, and start as
    /// after [`Command::Start`]. Where it is interrupted the next start goes on with it.
    Exchange {
        /// Whose copy.
        from: NodeName,
    },
    /// Set the voters, promote to exactly that timeline, and put `standby.signal` back (S1).
    Promote {
        /// The timeline of the epoch.
        timeline: Timeline,
        /// `synchronous_standby_names`.
        voters: VoterSet,
    },
    /// Set `synchronous_standby_names`, and wait until a new session shows it and each walsender has since
    /// sent two newer replies. Only then the flush position is read.
    UseVoters(VoterSet),
    /// Admit clients.
    Admit,
    /// Close the gate for good, drop the writer VIP, end every process of the cgroup (`cgroup.kill`), and
    /// wait until there is none (`populated 0`).
    Kill,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// [`Command::Keep`], [`Command::Follow`] and [`Command::Admit`].
    Done,
    /// [`Command::Start`], [`Command::StopStreaming`], [`Command::CatchUp`], [`Command::Rewind`] and
    /// [`Command::Exchange`]: a standby runs that streams from nobody. The log, where its end is known already.
    Stopped(Option<Wal>),
    /// [`Command::Promote`]: where the timeline begins.
    Promoted(Position),
    /// [`Command::Restart`]: where the log ends after recovery. [`Command::UseVoters`]: the flush position.
    Flushed(Lsn),
    /// [`Command::Kill`].
    Killed,
    /// It did not work, or not all of it: a part of its effect may be there. After a start, a restart or a
    /// rewind PostgreSQL is ended and that tried again; after what changes from whom it streams, streaming is
    /// stopped first. That PostgreSQL is gone is told by [`super::Event::Gone`] besides.
    Failed,
}

/// What an agent must know again after a crash, whatever became of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The state of the record from which the rest was read. Older ones are refused (S5).
    pub seen: Option<Mark>,
    /// How far the record had come then. What has come less far is refused, too.
    pub progress: Progress,
    /// This node has stopped streaming for that freeze, and streams from nobody before the record says that
    /// it is over.
    pub frozen: Option<u64>,
    /// [`Command::Rewind`] has begun, and it is not known that it has ended: there may be no server in the
    /// directory that could be started.
    pub rewinding: bool,
    /// The lease, as the record said last.
    pub lease: Option<Timings>,
}

impl Kept {
    /// How long a promise binds that may have been given (S8).
    pub(super) fn promise(&self) -> Duration {
        self.lease.map_or(Duration::ZERO, |lease| lease.proven_after())
    }
}

/// What runs here when an agent starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A standby, in a cgroup of ours.
    Standby {
        /// Its gate is open, and was never armed.
        open: bool,
        /// It streams from that node.
        upstream: Option<NodeName>,
        /// Its log; `None` while its end is not known.
        wal: Option<Wal>,
    },
    /// A server out of recovery, in a cgroup of ours.
    Primary {
        /// Until when its gate is open; `None`: it is closed.
        open: Option<Moment>,
        /// It admits clients.
        admits: bool,
        /// Its log.
        wal: Wal,
    },
}
