//! Which node becomes the primary of a cluster that is founded over data directories, and what speaks against it.

use std::collections::BTreeMap;

use pgha_machine::failover::order::Refusal;
use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::{Member, Mode, Record};
use pgha_machine::{NodeName, Position, Wal};
use serde::Serialize;

use crate::agent::status::{AgentStatus, RoleStatus};

/// What was seen of a node.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) node: NodeName,
    /// What its agent says, or why there is no word of it.
    pub(super) status: Result<AgentStatus, String>,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    pub(super) primary: NodeName,
    /// Why it.
    pub(super) why: &'static str,
    /// Where it goes on.
    pub(super) from: Position,
    pub(super) followers: Vec<NodeName>,
}

/// Why a cluster is not founded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum Objection {
    #[error("{node}: {why}")]
    NoWord { node: NodeName, why: String },
    #[error(
        "{node}: PostgreSQL is {role} there, and has to be a standby of nobody, as its agent starts it; see that agent's log"
    )]
    NotReady { node: NodeName, role: String },
    #[error("{node}: the end of its log is not known yet; run this again")]
    NoEnd { node: NodeName },
    #[error(
        "{node}: its data directory is of another cluster: system identifier {found}, and {wanted} on {of}; make it anew: pg_basebackup"
    )]
    Foreign { node: NodeName, found: u64, of: NodeName, wanted: u64 },
    #[error(
        "{one} and {other} were both primaries: what each has may be lacking on the other; make one of them anew (pg_basebackup), and remove the state directory of its agent"
    )]
    TwoPrimaries { one: NodeName, other: NodeName },
    #[error("{0} is no [[node]] with an agent")]
    Stranger(NodeName),
    #[error(
        "{node} has log up to {has} of timeline {timeline}, which {primary} does not have; name {node} with --primary, or make it anew (pg_basebackup)"
    )]
    Ahead {
        node: NodeName,
        has: pgha_machine::Lsn,
        timeline: pgha_machine::Timeline,
        primary: NodeName,
    },
    #[error("{0}")]
    Mode(Refusal),
}

/// A node that could be of the cluster.
struct Ready<'l> {
    node: &'l NodeName,
    wal: &'l Wal,
    was_primary: bool,
    system: Option<u64>,
}

/// The first record, or everything that speaks against it.
pub(super) fn found(
    looks: &[Look],
    wanted: Option<NodeName>,
    members: &BTreeMap<NodeName, Member>,
    mode: Mode,
    pace: Pace,
) -> Result<(Plan, Record), Vec<Objection>> {
    let mut objections = foreigners(looks);
    let mut ready = Vec::new();
    for look in looks {
        match judge(look) {
            Ok(node) => ready.push(node),
            Err(objection) => objections.push(objection),
        }
    }
    let mut primaries = ready.iter().filter(|node| node.was_primary);
    if let (Some(one), Some(other)) = (primaries.next(), primaries.next()) {
        let (one, other) = (one.node.clone(), other.node.clone());
        objections.push(Objection::TwoPrimaries { one, other });
    }
    if !objections.is_empty() {
        return Err(objections);
    }
    let (primary, why) = choose(&ready, wanted).map_err(|objection| vec![objection])?;
    let ahead = ready.iter().filter(|other| !primary.wal.contains(other.wal.end));
    let ahead: Vec<_> = ahead
        .map(|other| Objection::Ahead {
            node: other.node.clone(),
            has: other.wal.end.lsn,
            timeline: other.wal.end.timeline,
            primary: primary.node.clone(),
        })
        .collect();
    if !ahead.is_empty() {
        return Err(ahead);
    }
    let others = members.iter().filter(|(name, _)| *name != primary.node);
    let others: BTreeMap<_, _> =
        others.map(|(name, member)| (name.clone(), member.clone())).collect();
    let followers = others.keys().cloned().collect();
    let record = Record::founded(primary.node, primary.wal, &others, mode, pace);
    let founded = record.map_err(|refusal| vec![Objection::Mode(refusal)])?;
    let record = Record { system: primary.system, ..founded };
    let plan = Plan { primary: primary.node.clone(), why, from: primary.wal.end, followers };
    Ok((plan, record))
}

/// Whether a node can be of the cluster as it is.
fn judge(look: &Look) -> Result<Ready<'_>, Objection> {
    let node = &look.node;
    let status = look.status.as_ref();
    let status =
        status.map_err(|why| Objection::NoWord { node: node.clone(), why: why.clone() })?;
    if status.role != RoleStatus::Standby {
        let role = status.role_text.clone();
        return Err(Objection::NotReady { node: node.clone(), role });
    }
    let wal = status.wal.as_ref().ok_or_else(|| Objection::NoEnd { node: node.clone() })?;
    Ok(Ready { node, wal, was_primary: status.was_primary, system: status.system })
}

/// Those of another system identifier than the first.
fn foreigners(looks: &[Look]) -> Vec<Objection> {
    let systems =
        looks.iter().filter_map(|look| Some((&look.node, look.status.as_ref().ok()?.system?)));
    let mut systems = systems.peekable();
    let Some((of, wanted)) = systems.peek().map(|(node, system)| ((*node).clone(), *system)) else {
        return Vec::new();
    };
    let other = systems.filter(|(_, found)| *found != wanted);
    other
        .map(|(node, found)| Objection::Foreign {
            node: node.clone(),
            found,
            of: of.clone(),
            wanted,
        })
        .collect()
}

/// The operator's word, else who was the primary, else who has most.
fn choose<'r, 'l>(
    ready: &'r [Ready<'l>],
    wanted: Option<NodeName>,
) -> Result<(&'r Ready<'l>, &'static str), Objection> {
    if let Some(wanted) = wanted {
        let found = ready.iter().find(|node| *node.node == wanted);
        return found.map(|node| (node, "as ordered")).ok_or(Objection::Stranger(wanted));
    }
    if let Some(node) = ready.iter().find(|node| node.was_primary) {
        return Ok((node, "as it was the primary before"));
    }
    let furthest = ready.iter().rev().max_by_key(|node| node.wal.end);
    match furthest {
        Some(node) => Ok((node, "as nobody has more")),
        None => Err(Objection::Mode(Refusal::Nothing)),
    }
}
