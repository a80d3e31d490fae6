//! What an agent tells of itself.

use std::net::IpAddr;

use pgha_machine::failover::record::Record;
use pgha_machine::{Epoch, NodeName, Wal};
use serde::{Deserialize, Serialize};

use super::failures::Failed;
use crate::postgres::server::facts::Facts;

/// Where it is asked.
pub const PATH: &str = "/v1/agent";
/// The version of [`AgentStatus`].
pub const SCHEMA: u32 = 1;

/// How it is with a managed node, by its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The name of the node.
    pub node: NodeName,
    /// What PostgreSQL is there.
    pub role: RoleStatus,
    /// The same in words.
    pub role_text: String,
    /// What the record says of the node, in words.
    pub standing: String,
    /// The epoch of the record; `None` while it was not read.
    pub epoch: Option<Epoch>,
    /// Who may accept writes by the record.
    pub holder: Option<NodeName>,
    /// The log of the node; `None` while its end is not known.
    pub wal: Option<Wal>,
    /// The system identifier of the data directory.
    pub system: Option<u64>,
    /// Whether the data directory was a primary's when the agent first came to it.
    pub was_primary: bool,
    /// The node goes on as the primary without the store, by what its members granted.
    pub failsafe: bool,
    /// What becomes of a node whose primary has no longer the log that it would stream next, in words.
    #[serde(default)]
    pub rebuild: Option<String>,
    /// Who goes on as the primary without the store, by its own word: this node or another.
    #[serde(default)]
    pub failsafe_of: Option<NodeName>,
    /// Whether the store answered when it was asked last; `None` before that.
    #[serde(default)]
    pub store: Option<bool>,
    /// The number of PostgreSQL's start, which grows.
    pub start: Option<u64>,
    /// The writer VIP is here.
    pub writer_vip: Option<IpAddr>,
    /// What becomes of the addresses of services on the node.
    #[serde(default)]
    pub addresses: AddressStatus,
    /// Why the node had better not be the primary: its disk, or the link of the writer VIP.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The record, as it was read last.
    pub record: Option<Record>,
    /// How PostgreSQL is by its own word, and when it said so: milliseconds since the Unix epoch. Missing while
    /// none runs, or it does not answer.
    #[serde(default)]
    pub facts: Option<(u64, Facts)>,
    /// What has failed here since it was cleared last.
    #[serde(default)]
    pub failures: Failed,
}

/// What becomes of the addresses of services on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// Who else has the writer VIP, while the node has it or is about to.
    pub rivals: Vec<RivalStatus>,
    /// The reader VIPs that are on its loopback.
    pub readers: Vec<IpAddr>,
    /// What keeps any of them from being as it should.
    pub troubles: Vec<String>,
}

/// Another host that has the writer VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RivalStatus {
    /// Its MAC address.
    pub mac: String,
    /// What it does with the VIP, in words before its name.
    pub does: String,
}

/// What PostgreSQL is on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleStatus {
    /// Nothing runs.
    Down,
    /// It is in recovery.
    Standby,
    /// It is in recovery and streams from nobody, for a freeze.
    Frozen,
    /// It is out of recovery after a crash, and admits no client yet.
    Restarted,
    /// It is out of recovery.
    Primary,
}
