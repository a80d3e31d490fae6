//! What the processes of a cluster tell each other. What several must agree on stands in the record; what is
//! told here is evidence of one node about itself: where a voter stopped (S2, S4), and what a member grants (S8).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Epoch, Lsn, Mark, NodeName, Wal};

/// From one process to another. Each may be lost, late, doubled or out of order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// I live, and this is how it is here. To everybody, as often as [`super::pace::Pace::heartbeat`]
    /// says and whenever something has changed.
    Report(Report),
    /// The store is gone: may I go on for another lease? From the primary to every member (S8).
    Ask {
        /// Its epoch.
        epoch: Epoch,
        /// Which process of it: an answer to a former one promises less than it seems.
        run: u64,
        /// Which question it is.
        number: u64,
    },
    /// You may.
    Grant {
        /// In this epoch.
        epoch: Epoch,
        /// To which process.
        run: u64,
        /// To which question.
        number: u64,
    },
    /// Stream from that node, which has more than you and may not become the primary. From a controller to
    /// a frozen candidate (S4).
    CatchUp {
        /// In which epoch.
        epoch: Epoch,
        /// In which freeze.
        freeze: u64,
        /// From whom.
        from: NodeName,
    },
    /// An operator says that what failed so far was mended: count anew. From a controller to an agent.
    Clear,
}

/// How it is with a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Report {
    /// The highest epoch it knows.
    pub epoch: Epoch,
    /// What it read last of the record, so that who is behind reads too.
    pub seen: Option<u64>,
    /// Of whom it has heard nothing for as long as makes a suspicion.
    pub silent: BTreeSet<NodeName>,
    /// An agent: the primary's own word that it cannot go on.
    pub fault: bool,
    /// An agent: it would refuse to be the primary.
    pub faulty: bool,
    /// An agent: PostgreSQL may fetch log from an archive here (`restore_command`), so that a frozen log may
    /// grow.
    pub restores: bool,
    /// An agent: the primary goes on by what its members granted, because the store is gone (S8).
    pub failsafe: bool,
    /// An agent: it has stopped for a freeze, and had this log then.
    pub frozen: Option<FrozenAt>,
    /// An agent: nothing of PostgreSQL is out of recovery here, nor on its way, and the writer VIP is not here.
    #[serde(default)]
    pub ended: bool,
    /// An agent: what is still there of its log begins there. Who needs what came before cannot stream from it.
    #[serde(default)]
    pub begins: Option<Lsn>,
}

/// A voter that has stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FrozenAt {
    /// For which freeze.
    pub freeze: u64,
    /// Its log; `None` while its end is not known.
    pub wal: Option<Wal>,
}

/// A state of the record, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Which.
    pub mark: Mark,
    /// `None` where there is no cluster yet.
    pub record: Option<Box<super::record::Record>>,
}
