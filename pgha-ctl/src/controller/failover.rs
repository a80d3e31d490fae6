//! Failover as operators see and order it: what the coordinator sees of the managed nodes, orders to it, and the
//! terms that there were ([`chronicle`]).

mod chronicle;
#[cfg(test)]
pub(crate) mod fixture;
mod route;
pub mod tale;

use std::collections::BTreeMap;
use std::time::Duration;

use pgha_machine::failover::coordinator::view::{Awaited, View};
use pgha_machine::failover::coordinator::{Accepted, Declined, Stage};
use pgha_machine::failover::record::{Record, Takeover};
use pgha_machine::{Epoch, NodeName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub(super) use chronicle::KEY as HISTORY_KEY;
pub use chronicle::{Chapter, History, Incident, IncidentKind};
pub(super) use chronicle::{Chronicle, Noted, Place};
pub(super) use route::router;

/// Number of the form of what these routes send.
pub const SCHEMA: u32 = 1;
/// Where a coordinator is asked, and ordered.
pub const PATH: &str = "/v1/failover";
/// Where nodes are told to count their failures anew.
pub const CLEAR: &str = "/v1/failover/clear";
/// Where the terms that there were are told.
pub const HISTORY: &str = "/v1/failover/history";

/// What the coordinator is asked.
#[derive(Debug)]
pub(super) enum Asked {
    /// How it is.
    Look(oneshot::Sender<FailoverStatus>),
    /// That another node be the primary; whose word it is.
    Order(Takeover, String, oneshot::Sender<Result<Accepted, Declined>>),
    /// That nodes count their failures anew: that one, or all. Who was told.
    Clear(Option<NodeName>, String, oneshot::Sender<Vec<NodeName>>),
}

/// How failover is, as one controller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverStatus {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which controller.
    pub controller: NodeName,
    /// Where a failover is.
    pub stage: StageStatus,
    /// For how long it has been there, in milliseconds, as far as this controller saw.
    pub in_stage_ms: Option<u64>,
    /// Whether the store has answered last.
    pub store_answers: Option<bool>,
    /// For how long it has not, in milliseconds, as far as this controller saw; missing where it answers.
    pub store_silent_ms: Option<u64>,
    /// How long ago the last renewal of the lease was seen, in milliseconds; missing where none was since this
    /// controller began, or the store was out of reach.
    pub renewed_ms: Option<u64>,
    /// Why nobody is nominated, where the primary is suspected.
    pub why_not: Option<String>,
    /// What would prove the end of the primary, where that is waited for, each in a phrase.
    pub awaits: Vec<String>,
    /// The nodes and the other controllers, as this one hears them.
    pub processes: BTreeMap<NodeName, ProcessStatus>,
    /// The record, as it was read last.
    pub record: Option<Record>,
}

/// Where a failover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageStatus {
    /// The record is not known.
    Unknown,
    /// There is a primary.
    Watching,
    /// It is suspected, or relieved, and voters stop.
    Frozen,
    /// A candidate may take the next epoch.
    Nominated,
}

/// Another process, as far as a controller hears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// How long ago it was heard, in milliseconds; missing where it never was.
    pub heard_ms: Option<u64>,
    /// Whether that is too long.
    pub silent: bool,
    /// It says that it cannot go on as the primary.
    pub fault: bool,
    /// Its disk does not write, or its link is down.
    pub faulty: bool,
    /// It goes on as the primary without the store.
    pub failsafe: bool,
    /// It has stopped for the present freeze.
    pub frozen: bool,
    /// Of a managed node: why it does not become the primary now.
    pub unfit: Option<String>,
}

/// `POST /v1/failover`: another node shall be the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverRequest {
    /// Who; the best of the others when missing.
    #[serde(default)]
    pub to: Option<NodeName>,
    /// Also where it is not known to have all that was acknowledged. Needs `to`.
    #[serde(default)]
    pub accept_data_loss: bool,
}

/// `POST /v1/failover/clear`: what failed is mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearRequest {
    /// Where; on all managed nodes when missing.
    #[serde(default)]
    pub node: Option<NodeName>,
}

/// Who was told so. Whether it has heard that, it says in its own status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearReply {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The nodes.
    pub told: Vec<NodeName>,
}

/// The order is in the record, and goes on whoever asks on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverReply {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The epoch that it ends.
    pub epoch: Epoch,
    /// The freeze that it is carried out by.
    pub freeze: u64,
}

impl FailoverStatus {
    /// What a controller of that name sees, to which the store has been silent for so long.
    pub(super) fn of(controller: NodeName, view: View, silent: Option<Duration>) -> Self {
        let freezes = view.record.as_ref().map(|record| record.freezes);
        let processes = view.processes.into_iter().map(|(node, seen)| {
            let report = seen.report.unwrap_or_default();
            let frozen = report.frozen.as_ref().map(|at| at.freeze);
            let status = ProcessStatus {
                heard_ms: seen.heard.map(milliseconds),
                silent: seen.silent,
                fault: report.fault,
                faulty: report.faulty,
                failsafe: report.failsafe,
                frozen: frozen.is_some() && frozen == freezes,
                unfit: seen.unfit.map(|unfit| unfit.to_string()),
            };
            (node, status)
        });
        Self {
            schema: SCHEMA,
            controller,
            stage: view.stage.into(),
            in_stage_ms: view.in_stage.map(milliseconds),
            store_answers: view.reachable,
            store_silent_ms: silent.map(milliseconds),
            renewed_ms: view.renewed.map(milliseconds),
            why_not: view.why_not.map(|why| why.to_string()),
            awaits: view.awaits.iter().map(awaited).collect(),
            processes: processes.collect(),
            record: view.record,
        }
    }
}

impl From<Stage> for StageStatus {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Unknown => Self::Unknown,
            Stage::Watching => Self::Watching,
            Stage::Frozen => Self::Frozen,
            Stage::Nominated => Self::Nominated,
        }
    }
}

fn awaited(awaited: &Awaited) -> String {
    match awaited {
        Awaited::Released => {
            "released: its agent ends PostgreSQL and gives the lease back".to_owned()
        }
        Awaited::Quorum => "quorum: enough voters stop".to_owned(),
        Awaited::Power => "power: its fence device turns it off".to_owned(),
        Awaited::Lease(left) => {
            format!("lease: {} ms more without a renewal", left.as_millis())
        }
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
