//! What an agent is told, and what it asks for.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Command, Outcome};
use crate::failover::desk::{Answer, Request};
use crate::failover::message::Message;
use crate::failover::record::Doubt;
use crate::failover::rules::Rules;
use crate::{Epoch, Lsn, Moment, NodeName, Wal};

/// An agent's part.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of its node.
    pub name: NodeName,
    /// The controllers.
    pub controllers: BTreeSet<NodeName>,
    /// A number that no other process of this node ever has.
    pub run: u64,
    /// How often PostgreSQL is restarted after a crash in one term before another node takes over.
    pub restarts: u32,
    /// Whether another node takes over after a crash, where one can at once and without less safety.
    pub hand_over: bool,
    /// The rules that hold.
    pub rules: Rules,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The store has answered, or says that the record has changed.
    Store(Answer),
    /// A message came.
    Heard {
        /// From whom.
        from: NodeName,
        /// What.
        message: Message,
    },
    /// A command has ended.
    Ended {
        /// Which.
        number: u64,
        /// How.
        outcome: Outcome,
    },
    /// PostgreSQL of the last start has ended, and nobody ordered it (S7). Told until it was taken in: also while
    /// that start is under way still.
    Gone,
    /// PostgreSQL was seen out of recovery, by whomever it was promoted.
    OutOfRecovery,
    /// The gate of the server that runs is closed, and never opens again.
    GateClosed,
    /// The primary cannot go on here: its disk does not write, or the link of its address is down.
    Faulty(bool),
    /// How far the log of this node is.
    Log(Wal),
    /// PostgreSQL may fetch log from an archive here: `restore_command` is set.
    Restores(bool),
    /// What is still there of the log of this node begins there: what came before it is removed.
    Begins(Lsn),
    /// A copy has come to its end.
    Copied {
        /// Which.
        number: u64,
        /// It has the log up to there at least; `None`: there is none.
        to: Option<Lsn>,
    },
    /// The standbys that stream from here, and how far each has flushed. Who is not alone under its name is left
    /// out.
    Standbys(BTreeMap<NodeName, Lsn>),
    /// Why a quorum of voters would prove nothing, as this primary sees it.
    Doubts(BTreeSet<Doubt>),
    /// [`super::Agent::poll_timeout`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Ask the store. It is answered once, in any case.
    Store(Request),
    /// Tell somebody.
    Send {
        /// Whom.
        to: NodeName,
        /// What.
        message: Message,
    },
    /// Do something to PostgreSQL. [`Event::Ended`] follows in any case, unless [`Command::Kill`] does.
    Do {
        /// A number that grows.
        number: u64,
        /// What.
        command: Command,
    },
    /// Make a copy of another node's data directory beside this node's, which nothing else is changed by: PostgreSQL
    /// runs on, and commands come and go. One that was begun before is given up. [`Event::Copied`] follows, but
    /// where another is begun.
    Copy {
        /// A number that grows.
        number: u64,
        /// Of whom.
        from: NodeName,
    },
    /// The gate is open until then. Before anything that follows. A gate that was not armed before is open for
    /// good, as a standby's.
    Arm(Moment),
    /// The writer VIP is here, in that epoch. Until [`Command::Kill`].
    Claim(Epoch),
}
