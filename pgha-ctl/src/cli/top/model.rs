//! What `pgha top` shows: the last minute of looks at the status, as numbers per second and as shares. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use pgha_common::verdict::Reason;
use pgha_machine::balancer::ServerView;
use serde::{Serialize, Serializer};

use crate::cli::words;
use crate::controller::state::ServerState;
use crate::controller::status::{ServiceStatus, Status, TrafficStatus};

/// Looks that are kept: a minute of them at the usual pace.
const KEPT: usize = 61;
/// Looks that the trend of a server shows.
pub(super) const TREND: usize = 12;

/// One look at the status.
#[derive(Clone, Debug)]
struct Look {
    at: Instant,
    status: Status,
}

/// The last looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    looks: VecDeque<Look>,
}

/// In which order the servers of a service stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    /// By name.
    #[default]
    Name,
    /// Most new connections first.
    New,
    /// Most open connections first.
    Open,
    /// Most packets first.
    Packets,
    /// Most lag first.
    Lag,
}

impl Order {
    /// The one that the key leads to.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Name => Self::New,
            Self::New => Self::Open,
            Self::Open => Self::Packets,
            Self::Packets => Self::Lag,
            Self::Lag => Self::Name,
        }
    }

    /// Its word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::New => "new connections",
            Self::Open => "open connections",
            Self::Packets => "packets",
            Self::Lag => "lag",
        }
    }
}

/// What is shown of one virtual service. JSON leaves out what is written for people alone; `pgha status
/// --json` has those numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) vip: SocketAddr,
    /// Its scheduler and its discovery.
    #[serde(skip)]
    pub(super) how: String,
    pub(super) servers: Vec<Server>,
    /// How many of them get new connections, and of how many that could.
    pub(super) serving: (usize, usize),
    #[serde(flatten)]
    pub(super) sum: Traffic,
}

/// What is shown of one real server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) state: ServerState,
    #[serde(skip)]
    pub(super) weight: String,
    /// What it is to have of all new connections, 0 to 1.
    #[serde(rename = "share_wanted")]
    pub(super) wanted: f64,
    /// What it had of those of the last minute; `None` while there were none.
    #[serde(rename = "share_had")]
    pub(super) had: Option<f64>,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
    /// Packets a second of the last looks, the newest last.
    #[serde(skip)]
    pub(super) trend: Vec<f64>,
    #[serde(skip)]
    pub(super) lag: String,
    lag_bytes: Option<u64>,
    #[serde(skip)]
    pub(super) connections: String,
    /// Why it is not simply up.
    pub(super) reasons: Vec<String>,
}

/// How much there is of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Traffic {
    /// New connections a second; `None` where that is not known yet.
    #[serde(rename = "new_per_second")]
    pub(super) new: Option<f64>,
    /// Frames a second.
    #[serde(rename = "packets_per_second")]
    pub(super) packets: Option<f64>,
    /// Open connections, about.
    pub(super) open: u64,
}

/// How often a verdict was given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    #[serde(serialize_with = "name_of")]
    pub(super) reason: Reason,
    /// A second; `None` where that is not known yet.
    #[serde(rename = "per_second")]
    pub(super) rate: Option<f64>,
    /// Since the maps were made.
    pub(super) total: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde has it so")]
fn name_of<S: Serializer>(reason: &Reason, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(reason.name())
}

impl Looks {
    /// Takes in a look.
    pub(super) fn push(&mut self, at: Instant, status: Status) {
        self.looks.push_back(Look { at, status });
        while self.looks.len() > KEPT {
            self.looks.pop_front();
        }
    }

    /// The newest status, and how old it is.
    pub(super) fn newest(&self, now: Instant) -> Option<(&Status, Duration)> {
        self.looks.back().map(|look| (&look.status, now.saturating_duration_since(look.at)))
    }

    /// The services as they are, their servers in that order.
    pub(super) fn services(&self, order: Order, wall: u64) -> Vec<Service> {
        let Some(newest) = self.looks.back() else { return Vec::new() };
        newest.status.services.iter().map(|of| self.service(of, order, wall)).collect()
    }

    fn service(&self, of: &ServiceStatus, order: Order, wall: u64) -> Service {
        let vip = SocketAddr::new(of.view.vip, of.view.port);
        let weight = |server: &ServerView| f64::from(server.effective_weight.thousandths());
        let weights: f64 = of.view.servers.iter().map(weight).sum();
        let minute = self.minute(of);
        let news: u64 = minute.values().sum();
        let mut servers: Vec<_> = of
            .view
            .servers
            .iter()
            .map(|server| Server {
                name: words::name(server),
                address: server.address,
                state: ServerState::of(server),
                weight: words::weight(server),
                wanted: part(weight(server), weights).unwrap_or_default(),
                had: part(minute.get(&server.id).copied().unwrap_or_default() as f64, news as f64),
                traffic: self.traffic(of, server.id),
                trend: self.trend(of, server.id),
                lag: words::lag(server),
                lag_bytes: server.lag_bytes,
                connections: words::connections(server),
                reasons: words::reasons(server, &of.view, of.said(server.address), wall),
            })
            .collect();
        sort(&mut servers, order);
        let sum = servers
            .iter()
            .map(|server| server.traffic)
            .fold(None, |sum, of| Some(sum.map_or(of, |sum: Traffic| sum.with(of))));
        Service {
            name: of.view.name.to_string(),
            vip,
            how: format!("{} · {}", of.view.scheduler, of.view.discovery),
            servers,
            serving: words::serving(&of.view.servers),
            sum: sum.unwrap_or_default(),
        }
    }

    /// New connections of each server within the looks that are kept.
    fn minute(&self, of: &ServiceStatus) -> BTreeMap<u16, u64> {
        let news = |(id, now): (&u16, &TrafficStatus)| {
            // An id that another server had before counts from its first look on.
            let first = self.looks.iter().find_map(|look| counted(look, of, *id))?;
            Some((*id, now.flows.checked_sub(first.flows)?))
        };
        of.traffic.iter().filter_map(news).collect()
    }

    fn traffic(&self, of: &ServiceStatus, id: u16) -> Traffic {
        let mut last = self.looks.iter().rev();
        let open = of.traffic.get(&id).map_or(0, |traffic| traffic.open);
        let (Some(new), Some(old)) = (last.next(), last.next()) else {
            return Traffic { new: None, packets: None, open };
        };
        let of = |number: fn(&TrafficStatus) -> u64| {
            let (then, now) = (counted(old, of, id)?, counted(new, of, id)?);
            rate(number(&then), number(&now), new.at.saturating_duration_since(old.at))
        };
        Traffic { new: of(|traffic| traffic.flows), packets: of(|traffic| traffic.packets), open }
    }

    fn trend(&self, of: &ServiceStatus, id: u16) -> Vec<f64> {
        let looks: Vec<_> = self.looks.iter().rev().take(TREND + 1).collect();
        let packets = |pair: &[&Look]| {
            let [new, old] = pair else { return 0.0 };
            let (Some(then), Some(now)) = (counted(old, of, id), counted(new, of, id)) else {
                return 0.0;
            };
            let time = new.at.saturating_duration_since(old.at);
            rate(then.packets, now.packets, time).unwrap_or_default()
        };
        let mut trend: Vec<_> = looks.windows(2).map(packets).collect();
        trend.reverse();
        trend
    }

    /// All verdicts that were ever given, those given most often now first.
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let mut last = self.looks.iter().rev();
        let Some(new) = last.next() else { return Vec::new() };
        let old = last.next();
        let verdict = |reason: &Reason| {
            let total = new.status.reasons.get(reason.name()).copied()?;
            let rate = old.and_then(|old| {
                let then = old.status.reasons.get(reason.name()).copied()?;
                rate(then, total, new.at.saturating_duration_since(old.at))
            });
            (total > 0).then_some(Verdict { reason: *reason, rate, total })
        };
        let mut verdicts: Vec<_> = Reason::ALL.iter().filter_map(verdict).collect();
        verdicts.sort_by(|a, b| {
            let often = |verdict: &Verdict| verdict.rate.unwrap_or_default();
            often(b).total_cmp(&often(a)).then(b.total.cmp(&a.total))
        });
        verdicts
    }
}

impl Traffic {
    /// Both together.
    fn with(self, other: Self) -> Self {
        let sum = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (one, other) => one.or(other),
        };
        Self {
            new: sum(self.new, other.new),
            packets: sum(self.packets, other.packets),
            open: self.open + other.open,
        }
    }
}

/// What a look says of the server that has that id in that service.
fn counted(look: &Look, of: &ServiceStatus, id: u16) -> Option<TrafficStatus> {
    let address = |of: &ServiceStatus| {
        of.view.servers.iter().find(|server| server.id == id).map(|server| server.address)
    };
    let then = look
        .status
        .services
        .iter()
        .find(|service| (service.view.vip, service.view.port) == (of.view.vip, of.view.port))?;
    (address(then) == address(of)).then_some(then.traffic.get(&id).copied()?)
}

/// So much a second; `None` when the counter began anew, or no time has passed.
fn rate(then: u64, now: u64, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then_some(now.checked_sub(then)? as f64 / seconds)
}

fn part(of: f64, all: f64) -> Option<f64> {
    (all > 0.0).then_some(of / all)
}

fn sort(servers: &mut [Server], order: Order) {
    let most = |number: fn(&Server) -> f64| {
        move |a: &Server, b: &Server| {
            number(b).total_cmp(&number(a)).then_with(|| a.name.cmp(&b.name))
        }
    };
    match order {
        Order::Name => servers.sort_by(|a, b| a.name.cmp(&b.name)),
        Order::New => servers.sort_by(most(|server| server.traffic.new.unwrap_or_default())),
        Order::Open => servers.sort_by(most(|server| server.traffic.open as f64)),
        Order::Packets => {
            servers.sort_by(most(|server| server.traffic.packets.unwrap_or_default()));
        }
        Order::Lag => servers.sort_by(most(|server| server.lag_bytes.unwrap_or_default() as f64)),
    }
}
