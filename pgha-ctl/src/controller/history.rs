//! `GET /v1/history`: the last minutes as columns of numbers, for plots.
//!
//! A sample is a status with everything left out that is no number. How many are kept is bounded in time
//! ([`SPAN`]) and in memory ([`ROWS`]): of very many servers they are taken less often.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pgha_common::verdict::Reason;
use pgha_machine::NodeName;
use serde::{Deserialize, Serialize};

use super::Controller;
use super::state::ServerState;
use super::status::{SCHEMA, Status};
use super::trace::action_name;
use crate::clock::unix_ms;

/// How often a sample is taken.
pub const EVERY: Duration = Duration::from_secs(2);
/// How far back they go.
pub const SPAN: Duration = Duration::from_secs(600);
/// How many rows, one for each server of each service in each sample, are kept at most. A row has 80 bytes:
/// together they are about 5 MB, and 218 servers have all samples of [`SPAN`].
const ROWS: usize = 65_536;

/// Which samples are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// Only those after this moment: milliseconds since the Unix epoch.
    pub since: Option<u64>,
}

/// Samples, the oldest first. Each column has a value for each moment of `at`; `null` says not known, or not
/// there then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryReply {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The controller's clock: milliseconds since the Unix epoch.
    pub now: u64,
    /// How far back samples go, in milliseconds.
    pub span_ms: u64,
    /// When the samples were taken: milliseconds since the Unix epoch, each greater than the one before.
    pub at: Vec<u64>,
    /// Frames received since the maps were made.
    pub received: Vec<u64>,
    /// The same frames by reason of their verdict; those that occurred.
    pub reasons: BTreeMap<String, Vec<u64>>,
    /// What happens to frames for each of these reasons: `forward`, `answer`, `pass` or `drop`.
    pub actions: BTreeMap<String, String>,
    /// The virtual services.
    pub services: Vec<ServiceHistory>,
}

/// One virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHistory {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub vip: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// Its real servers, also former ones.
    pub servers: Vec<ServerHistory>,
}

/// One real server of one service. What counts begins anew with a new `id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHistory {
    /// Its address.
    pub address: IpAddr,
    /// Its id in the data plane.
    pub id: u16,
    /// Frames it got.
    pub packets: Vec<Option<u64>>,
    /// Bytes of these frames.
    pub bytes: Vec<Option<u64>>,
    /// New flows that the scheduler sent to it.
    pub flows: Vec<Option<u64>>,
    /// Flows that were open, about.
    pub open: Vec<Option<u64>>,
    /// The weight in force, in thousandths.
    pub weight: Vec<Option<u32>>,
    /// WAL that it had not replayed, in bytes.
    pub lag_bytes: Vec<Option<u64>>,
    /// How long what its readers saw had been out of date, in milliseconds.
    pub lag_ms: Vec<Option<u64>>,
    /// How many of its connections were in use, whoever had them.
    pub connections: Vec<Option<u32>>,
    /// What it was to new connections.
    pub state: Vec<Option<ServerState>>,
}

/// One server of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: NodeName,
    vip: IpAddr,
    port: u16,
    address: IpAddr,
    id: u16,
}

/// Its numbers at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    packets: u64,
    bytes: u64,
    flows: u64,
    open: u64,
    lag_bytes: Option<u64>,
    lag_ms: Option<u64>,
    connections: Option<u32>,
    weight: u32,
    state: ServerState,
}

/// Everything at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    at: u64,
    received: u64,
    reasons: Vec<u64>,
    /// Whose `rows` are: the same list as the sample's before, as long as nobody comes or goes.
    keys: Arc<[Key]>,
    rows: Vec<Row>,
}

/// Samples, the oldest first.
pub(super) type Samples = Vec<Arc<Sample>>;

/// The last samples.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Arc<Sample>>,
    rows: usize,
}

impl History {
    /// Whether it is time for another sample, of as many servers as the last had.
    pub(super) fn is_due(&self, now: u64) -> bool {
        let Some(last) = self.samples.back() else { return true };
        let wanted = SPAN.as_secs().div_ceil(EVERY.as_secs()) as usize;
        let affordable = (ROWS / last.rows.len().max(1)).max(1);
        let periods = wanted.div_ceil(affordable) as u64;
        // Half a period of grace: a timer is never exact. A clock that was set back is no reason to wait.
        let wait = periods * millis(EVERY) - millis(EVERY) / 2;
        now < last.at || now - last.at >= wait
    }

    /// Takes in the state at `now`. A clock that was set back makes all of the past another time's, which no
    /// plot could show beside this one's: it is forgotten.
    pub(super) fn push(&mut self, now: u64, status: &Status) {
        if self.samples.back().is_some_and(|last| last.at >= now) {
            *self = Self::default();
        }
        let keys = keys(status);
        let keys = match self.samples.back() {
            Some(last) if *last.keys == *keys => Arc::clone(&last.keys),
            _ => keys.into(),
        };
        let sample = Sample {
            at: now,
            received: status.received,
            reasons: Reason::ALL.iter().map(|reason| count(status, reason.name())).collect(),
            keys,
            rows: rows(status),
        };
        self.rows += sample.rows.len();
        self.samples.push_back(Arc::new(sample));
        let from = now.saturating_sub(millis(SPAN));
        while self.samples.len() > 1
            && (self.rows > ROWS || self.samples.front().is_some_and(|oldest| oldest.at < from))
        {
            self.rows -= self.samples.pop_front().map_or(0, |oldest| oldest.rows.len());
        }
    }

    /// The samples after a moment.
    pub(super) fn since(&self, since: u64) -> Samples {
        self.samples.iter().filter(|sample| sample.at > since).map(Arc::clone).collect()
    }
}

impl Controller {
    /// Takes a sample, if it is time.
    pub(super) fn sample(&mut self) {
        let now = unix_ms();
        if !self.history.is_due(now) {
            return;
        }
        match self.status() {
            Ok(status) => self.history.push(now, &status),
            Err(error) => tracing::debug!("no sample for the history: {error}"),
        }
    }
}

/// Samples as they are sent, at `now`.
pub(super) fn written(samples: &[Arc<Sample>], now: u64) -> HistoryReply {
    let mut servers: BTreeMap<&Key, ServerHistory> = BTreeMap::new();
    for (index, sample) in samples.iter().enumerate() {
        for (key, row) in sample.keys.iter().zip(&sample.rows) {
            let columns =
                servers.entry(key).or_insert_with(|| ServerHistory::empty(key, samples.len()));
            columns.set(index, row);
        }
    }
    let mut services: Vec<ServiceHistory> = Vec::new();
    for (key, columns) in servers {
        match services.last_mut() {
            Some(of) if (&of.name, of.vip, of.port) == (&key.service, key.vip, key.port) => {
                of.servers.push(columns);
            }
            _ => services.push(ServiceHistory {
                name: key.service.clone(),
                vip: key.vip,
                port: key.port,
                servers: vec![columns],
            }),
        }
    }
    let column = |index: usize| samples.iter().map(move |sample| sample.reasons[index]);
    let occurred: Vec<_> = Reason::ALL
        .iter()
        .enumerate()
        .filter(|(index, _)| column(*index).any(|count| count > 0))
        .collect();
    let action = |reason: &Reason| action_name(reason.action()).to_owned();
    HistoryReply {
        schema: SCHEMA,
        now,
        span_ms: millis(SPAN),
        at: samples.iter().map(|sample| sample.at).collect(),
        received: samples.iter().map(|sample| sample.received).collect(),
        reasons: occurred
            .iter()
            .map(|(index, reason)| (reason.name().to_owned(), column(*index).collect()))
            .collect(),
        actions: occurred
            .iter()
            .map(|(_, reason)| (reason.name().to_owned(), action(reason)))
            .collect(),
        services,
    }
}

impl ServerHistory {
    fn empty(key: &Key, moments: usize) -> Self {
        Self {
            address: key.address,
            id: key.id,
            packets: vec![None; moments],
            bytes: vec![None; moments],
            flows: vec![None; moments],
            open: vec![None; moments],
            weight: vec![None; moments],
            lag_bytes: vec![None; moments],
            lag_ms: vec![None; moments],
            connections: vec![None; moments],
            state: vec![None; moments],
        }
    }

    fn set(&mut self, moment: usize, row: &Row) {
        self.packets[moment] = Some(row.packets);
        self.bytes[moment] = Some(row.bytes);
        self.flows[moment] = Some(row.flows);
        self.open[moment] = Some(row.open);
        self.weight[moment] = Some(row.weight);
        self.lag_bytes[moment] = row.lag_bytes;
        self.lag_ms[moment] = row.lag_ms;
        self.connections[moment] = row.connections;
        self.state[moment] = Some(row.state);
    }
}

fn keys(status: &Status) -> Vec<Key> {
    let of_service = |service: &super::status::ServiceStatus| {
        let view = &service.view;
        let key = |server: &pgha_machine::balancer::ServerView| Key {
            service: view.name.clone(),
            vip: view.vip,
            port: view.port,
            address: server.address,
            id: server.id,
        };
        view.servers.iter().map(key).collect::<Vec<_>>()
    };
    status.services.iter().flat_map(of_service).collect()
}

fn rows(status: &Status) -> Vec<Row> {
    let mut rows = Vec::new();
    for service in &status.services {
        for server in &service.view.servers {
            let traffic = service.traffic.get(&server.id).copied().unwrap_or_default();
            rows.push(Row {
                packets: traffic.packets,
                bytes: traffic.bytes,
                flows: traffic.flows,
                open: traffic.open,
                lag_bytes: server.lag_bytes,
                lag_ms: server.lag_ms,
                connections: server.connections.map(|connections| connections.used),
                weight: server.effective_weight.thousandths(),
                state: ServerState::of(server),
            });
        }
    }
    rows
}

fn count(status: &Status, reason: &str) -> u64 {
    status.reasons.get(reason).copied().unwrap_or(0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
