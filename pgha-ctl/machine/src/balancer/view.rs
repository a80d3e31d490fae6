//! What operators see.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::SyncState;
use super::member::{Connections, Down, Finding, Health, Member, Streaming};
use super::orders::ReaderOrder;
use super::probe::{Probe, VipStanding};
use super::reasons::{Stamp, WeightReason};
use super::weighing::Weighing;
use super::withheld::Withheld;
use super::{Balancer, Pool};
use crate::{EffectiveWeight, NodeName, Timeline, Weight};

/// One virtual service and its real servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub vip: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// `maglev`, `rr`, `source` or `least`.
    pub scheduler: String,
    /// `walsenders`, `direct`, `both`, `agents` or `writer`.
    pub discovery: String,
    /// Its real servers by address.
    pub servers: Vec<ServerView>,
}

/// One real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name, where it has one.
    pub name: Option<NodeName>,
    /// Its address.
    pub address: IpAddr,
    /// Its id in the data plane.
    pub id: u16,
    /// Its MAC address, where known.
    pub mac: Option<String>,
    /// Number of the director's interface behind which that is.
    pub interface: Option<u8>,
    /// It is the director itself.
    pub local: bool,
    /// It is in the configuration's node table.
    pub listed: bool,
    /// `sync_state` of its walsender; `None` where it has none or nobody could be asked.
    pub sync_state: Option<SyncState>,
    /// What its checks say.
    pub health: Standing,
    /// Whether its sessions are gone and its clients are told so by RST.
    pub dead: bool,
    /// The weight it would have if nothing were wrong.
    pub weight: Weight,
    /// The weight it has.
    pub effective_weight: EffectiveWeight,
    /// Why that is so, step by step.
    #[serde(default)]
    pub weight_reasons: Vec<WeightReason>,
    /// Who drained it, if somebody did.
    pub drained: Option<Stamp>,
    /// In how many milliseconds the sessions that are left are reset; 0 when they are.
    #[serde(default)]
    pub reset_ms: Option<u64>,
    /// Who set its weight, if somebody did.
    pub weight_set: Option<Stamp>,
    /// Who added it as a reader, if somebody did.
    #[serde(default)]
    pub reader: Option<Stamp>,
    /// Why it gets no new connections; empty when it does.
    pub withheld: Vec<Withheld>,
    /// End of the WAL it has replayed.
    pub replayed: Option<String>,
    /// How far that is behind the primary, in bytes; `None` while no primary answers.
    pub lag_bytes: Option<u64>,
    /// How long what its readers see has been out of date, in milliseconds; `None` while that is not
    /// known.
    #[serde(default)]
    pub lag_ms: Option<u64>,
    /// End of the WAL it has received.
    #[serde(default)]
    pub received: Option<String>,
    /// The timeline it is on.
    #[serde(default)]
    pub timeline: Option<Timeline>,
    /// How many of its connections are in use.
    #[serde(default)]
    pub connections: Option<Connections>,
    /// The standby it streams from, where that is not the primary.
    #[serde(default)]
    pub upstream: Option<IpAddr>,
    /// What it is, by its last answer.
    #[serde(default)]
    pub role: ServerRole,
    /// What probes through the VIP say.
    #[serde(default)]
    pub vip: VipStanding,
    /// What the last of them said that did not come through.
    #[serde(default)]
    pub vip_error: Option<String>,
    /// It answers ARP or neighbour solicitations for the VIP, which would draw clients past the
    /// director.
    #[serde(default)]
    pub answers_arp: bool,
    /// What its last check failed with.
    pub error: Option<String>,
    /// For how long its checks have told nothing, in milliseconds: it stays as it was. `None` while they tell.
    #[serde(default)]
    pub stale_ms: Option<u64>,
}

/// What a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerRole {
    /// It is in recovery.
    Standby,
    /// It is not.
    Primary,
    /// It has not said yet.
    #[default]
    Unknown,
}

/// A server's health in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may get new connections.
    Up,
    /// It has not passed enough checks yet.
    Checking,
    /// It may not.
    Down,
}

impl Balancer {
    /// What operators see of every service.
    #[must_use]
    pub fn view(&self) -> Vec<ServiceView> {
        self.pools.iter().map(|pool| self.service_view(pool)).collect()
    }

    fn service_view(&self, pool: &Pool) -> ServiceView {
        ServiceView {
            name: pool.service.name.clone(),
            vip: pool.service.vip,
            port: pool.service.port,
            scheduler: pool.service.scheduler_name().to_owned(),
            discovery: pool.service.discovery.name().to_owned(),
            servers: pool.members.values().map(|member| self.server_view(pool, member)).collect(),
        }
    }

    fn server_view(&self, pool: &Pool, member: &Member) -> ServerView {
        let standby = match &member.finding {
            Some(Finding::Standby(standby)) => Some(standby),
            _ => None,
        };
        let replayed = standby.and_then(|standby| standby.replayed);
        // What was measured last stands for the decisions, but is no news of now.
        let lag = member.lag.filter(|_| self.primary_answers() || !self.asked);
        let verdict = &member.verdict;
        let weighing = Weighing::of(member, &pool.service, self.now);
        let mut weight_reasons = weighing.reasons(member);
        weight_reasons.extend(verdict.weight_reasons());
        ServerView {
            name: self.name_of(member.address).cloned(),
            address: member.address,
            id: member.real.id,
            mac: member.neighbour.map(|neighbour| neighbour.mac.to_string()),
            interface: member.neighbour.map(|neighbour| neighbour.interface),
            local: member.local,
            listed: member.listed,
            sync_state: match member.streaming {
                Some(Streaming::Yes(state)) => Some(state),
                Some(Streaming::No) | None => None,
            },
            health: match member.health {
                Health::Up(_) => Standing::Up,
                Health::Unproven(_) | Health::Down(Down::Unproven, _) => Standing::Checking,
                Health::Down(..) => Standing::Down,
            },
            dead: verdict.dead,
            weight: member.wanted_weight(),
            effective_weight: verdict.weight,
            weight_reasons,
            drained: member.ordered.drained.clone(),
            reset_ms: member
                .ordered
                .reset_at
                .map(|at| u64::try_from(at.since(self.now).as_millis()).unwrap_or(u64::MAX)),
            weight_set: member.ordered.weight_set.clone(),
            reader: member.reader.as_ref().map(ReaderOrder::stamp),
            withheld: verdict.withheld(),
            replayed: replayed.map(|lsn| lsn.to_string()),
            lag_bytes: lag.and_then(|lag| lag.bytes),
            lag_ms: lag.and_then(|lag| lag.time).map(millis),
            received: standby.and_then(|standby| standby.received).map(|lsn| lsn.to_string()),
            timeline: match &member.finding {
                Some(Finding::Standby(standby)) => standby.timeline,
                Some(Finding::NotInRecovery { timeline, .. }) => *timeline,
                _ => None,
            },
            connections: standby.and_then(|standby| standby.connections),
            upstream: member.upstream,
            role: match &member.finding {
                Some(Finding::Standby(_)) => ServerRole::Standby,
                Some(Finding::NotInRecovery { .. }) => ServerRole::Primary,
                _ => ServerRole::Unknown,
            },
            vip: match pool.service.probe {
                Probe::Off => VipStanding::Off,
                Probe::Syn | Probe::Startup => member.passage.standing(),
            },
            vip_error: member.passage.error().map(str::to_owned),
            answers_arp: member.leaks_until.is_some(),
            error: match &member.finding {
                Some(
                    Finding::Answered(error)
                    | Finding::Silent(error)
                    | Finding::LoginRefused(error)
                    | Finding::Undecided(error),
                ) => Some(error.clone()),
                _ => None,
            },
            stale_ms: member.stale_since().map(|since| millis(self.now.since(since))),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.withheld().phrase())
    }
}
