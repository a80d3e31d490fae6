//! What an agent has done to PostgreSQL, and what comes of it.

use serde::{Deserialize, Serialize};

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
    /// Stream from that node.
    Follow(NodeName),
    /// Take back what this node has and the cluster has not (`pg_rewind`, or a new copy), and start as
    /// after [`Command::Start`].
    Rewind {
        /// From whom.
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
    /// [`Command::Start`], [`Command::StopStreaming`], [`Command::CatchUp`] and [`Command::Rewind`]: a
    /// standby runs that streams from nobody. The log, where its end is known already.
    Stopped(Option<Wal>),
    /// [`Command::Promote`]: where the timeline begins.
    Promoted(Position),
    /// [`Command::Restart`]: where the log ends after recovery. [`Command::UseVoters`]: the flush position.
    Flushed(Lsn),
    /// [`Command::Kill`].
    Killed,
    /// It did not work; PostgreSQL is as it was, or gone. It is tried again.
    Failed,
}

/// What an agent must know again after a crash, whatever became of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The state of the record from which the rest was read. Older ones are refused (S5).
    pub seen: Option<Mark>,
    /// The highest epoch that was seen.
    pub epoch: Epoch,
    /// This node has stopped streaming for that freeze, and streams from nobody before the record says that
    /// it is over.
    pub frozen: Option<u64>,
    /// How long a promise binds, as the record said last.
    pub promise: std::time::Duration,
}

/// What runs here when an agent starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A standby, in a cgroup of ours.
    Standby {
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
