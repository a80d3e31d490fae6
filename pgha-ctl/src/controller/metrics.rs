//! `GET /metrics`: the status as numbers, in OpenMetrics' text format, which Prometheus reads. Every
//! metric stands in [`FAMILIES`], and docs/metrics.md is made from that.

use std::fmt;
use std::net::IpAddr;

use pgha_common::verdict::Reason;
use pgha_machine::EffectiveWeight;
use pgha_machine::balancer::{ServerView, Standing};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::status::{FlowsInUse, PrimaryStatus, ProbeStatus, ServiceStatus, Status, TrafficStatus};
use super::trace::action_name;

#[cfg(test)]
mod tests;

/// The media type of what [`written`] writes (OpenMetrics 1.0.0, section "Protocol Negotiation").
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It only rises, and begins anew with the maps; its samples end in `_total`.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Always 1: the labels say it; its samples end in `_info`.
    Info,
}

impl Kind {
    const fn as_metric(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Info => MetricType::Info,
        }
    }
}

/// The values of a metric's labels, in their order, and its own.
type Sample = (Vec<String>, Number);

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Whole(u64),
    /// Of what is kept in thousandths and told in units, so that no metric has a unit of its own.
    Thousandths(u64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<EffectiveWeight> for Number {
    fn from(weight: EffectiveWeight) -> Self {
        Self::Thousandths(weight.thousandths().into())
    }
}

/// A metric.
struct Family {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Status) -> Vec<Sample>,
}

/// Labels of a real server.
const SERVER: &[&str] = &["service", "vip", "port", "server", "address"];

/// Labels of the probes of one.
const PROBE: &[&str] = &["service", "vip", "port", "server", "address", "finding"];

/// Every metric.
const FAMILIES: &[Family] = &[
    Family {
        name: "pgha_frames_received",
        kind: Kind::Counter,
        labels: &[],
        help: "Frames received, since the maps were made",
        samples: |status| one(status.received),
    },
    Family {
        name: "pgha_frames",
        kind: Kind::Counter,
        labels: &["action", "reason"],
        help: "The same frames by what happened to them, and why: docs/verdicts.md",
        samples: reasons,
    },
    Family {
        name: "pgha_server_packets",
        kind: Kind::Counter,
        labels: SERVER,
        help: "Frames forwarded to a real server, since it has its id",
        samples: |status| traffic(status, |traffic| traffic.packets),
    },
    Family {
        name: "pgha_server_bytes",
        kind: Kind::Counter,
        labels: SERVER,
        help: "Bytes of these frames",
        samples: |status| traffic(status, |traffic| traffic.bytes),
    },
    Family {
        name: "pgha_server_flows",
        kind: Kind::Counter,
        labels: SERVER,
        help: "New flows that the scheduler sent to a real server, since it has its id",
        samples: |status| traffic(status, |traffic| traffic.flows),
    },
    Family {
        name: "pgha_server_open_flows",
        kind: Kind::Gauge,
        labels: SERVER,
        help: "Flows of a real server that are open, about",
        samples: |status| traffic(status, |traffic| traffic.open),
    },
    Family {
        name: "pgha_server_weight",
        kind: Kind::Gauge,
        labels: SERVER,
        help: "Weight of a real server in force: 0 while it gets no new connections",
        samples: |status| servers(status, |view| Some(view.effective_weight)),
    },
    Family {
        name: "pgha_server_up",
        kind: Kind::Gauge,
        labels: SERVER,
        help: "1 while a real server passes its checks",
        samples: |status| servers(status, |view| Some(u64::from(view.health == Standing::Up))),
    },
    Family {
        name: "pgha_server_stale_seconds",
        kind: Kind::Gauge,
        labels: SERVER,
        help: "For how long the checks of a real server have told nothing, so that it stays as it was; 0 while they tell",
        samples: |status| servers(status, |view| Some(view.stale_ms.unwrap_or(0) / 1_000)),
    },
    Family {
        name: "pgha_server_drained",
        kind: Kind::Gauge,
        labels: SERVER,
        help: "1 while an operator drains a real server",
        samples: |status| servers(status, |view| Some(u64::from(view.drained.is_some()))),
    },
    Family {
        name: "pgha_server_replay_lag_bytes",
        kind: Kind::Gauge,
        labels: SERVER,
        help: "WAL that a real server has not replayed yet; absent where that is not known",
        samples: |status| servers(status, |view| view.lag_bytes),
    },
    Family {
        name: "pgha_server_probes",
        kind: Kind::Counter,
        labels: PROBE,
        help: "Probes of a real server through the VIP by how they ended, since this controller began them",
        samples: probes,
    },
    Family {
        name: "pgha_server_answers_arp",
        kind: Kind::Gauge,
        labels: SERVER,
        help: "1 while a real server answers ARP or neighbour solicitations for the VIP, which it must not",
        samples: |status| servers(status, |view| Some(u64::from(view.answers_arp))),
    },
    Family {
        name: "pgha_service",
        kind: Kind::Info,
        labels: &["service", "vip", "port", "scheduler", "discovery"],
        help: "A virtual service",
        samples: services,
    },
    Family {
        name: "pgha_director",
        kind: Kind::Info,
        labels: &["cluster", "mode"],
        help: "This director, and where in the kernel its program runs",
        samples: |status| {
            let mode = status.director.mode.clone().unwrap_or_default();
            vec![(vec![status.cluster.to_string(), mode], 1.into())]
        },
    },
    Family {
        name: "pgha_director_active",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while this director answers for the VIPs",
        samples: |status| one(u64::from(status.director.active)),
    },
    Family {
        name: "pgha_director_attached",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while the program is on the interfaces",
        samples: |status| one(u64::from(status.director.attached)),
    },
    Family {
        name: "pgha_director_cut_off",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while this director reaches nobody: no interface has a link, or neither a server nor the primary answers",
        samples: |status| one(u64::from(status.director.cut_off.is_some())),
    },
    Family {
        name: "pgha_flows",
        kind: Kind::Gauge,
        labels: &["table", "family"],
        help: "Flows in a flow table when it was last gone through, about once a minute; absent before",
        samples: in_use,
    },
    Family {
        name: "pgha_flow_table_capacity",
        kind: Kind::Gauge,
        labels: &["table", "family"],
        help: "Flows that a flow table holds at most",
        samples: capacity,
    },
    Family {
        name: "pgha_primary_answers",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while the primary answers; absent where no service asks it",
        samples: |status| {
            let primary = status.primary.as_ref();
            primary.map_or_else(Vec::new, |primary| one(u64::from(primary.answers)))
        },
    },
    Family {
        name: "pgha_primary_stale_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "For how long the primary has not answered, 0 while it does: so old is what is known of walsenders; absent where no service asks it",
        samples: |status| {
            let age = |primary: &PrimaryStatus| one(primary.stale_ms.unwrap_or(0) / 1_000);
            status.primary.as_ref().map_or_else(Vec::new, age)
        },
    },
    Family {
        name: "pgha_primary_rivals",
        kind: Kind::Gauge,
        labels: &[],
        help: "Hosts that are out of recovery besides one primary: former ones, or others with equal right; absent where no service asks it",
        samples: |status| {
            let rivals = |primary: &PrimaryStatus| {
                let several = primary.several.len().saturating_sub(1);
                one((several + primary.stale.len()) as u64)
            };
            status.primary.as_ref().map_or_else(Vec::new, rivals)
        },
    },
    Family {
        name: "pgha_store_up",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 while the store of the orders can be read and written",
        samples: |status| one(u64::from(status.store.answers)),
    },
    Family {
        name: "pgha_store_stale_since_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Since when it cannot, since the Unix epoch; absent while it can",
        samples: |status| status.store.stale_since.map_or_else(Vec::new, one),
    },
    Family {
        name: "pgha_certificate_end_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the certificate of the API ends, since the Unix epoch; absent where it does not listen on TCP",
        samples: |status| status.api.as_ref().map_or_else(Vec::new, |api| one(api.until)),
    },
    Family {
        name: "pgha_controller_start_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the controller started, since the Unix epoch",
        samples: |status| one(status.started),
    },
    Family {
        name: "pgha_build",
        kind: Kind::Info,
        labels: &["version"],
        help: "The controller",
        samples: |status| vec![(vec![status.version.clone()], 1.into())],
    },
];

/// A status as metrics.
///
/// # Errors
/// Never in practice: memory takes what is written.
pub(super) fn written(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(status)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

/// One reading of all metrics.
#[derive(Debug)]
struct Scrape(Status);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in FAMILIES {
            let kind = family.kind.as_metric();
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (values, number) in (family.samples)(&self.0) {
                let labels: Vec<_> = family.labels.iter().copied().zip(values).collect();
                match family.kind {
                    Kind::Info => metric.encode_info(&labels)?,
                    Kind::Counter | Kind::Gauge if labels.is_empty() => {
                        encode(&mut metric, family.kind, number)?;
                    }
                    Kind::Counter | Kind::Gauge => {
                        encode(&mut metric.encode_family(&labels)?, family.kind, number)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder<'_>, kind: Kind, number: Number) -> Result<(), fmt::Error> {
    let none: Option<&Exemplar<NoLabelSet, u64>> = None;
    match (kind, number) {
        (Kind::Counter, Number::Whole(number)) => metric.encode_counter(&number, none),
        (Kind::Counter, Number::Thousandths(number)) => {
            metric.encode_counter(&(number as f64 / 1e3), none)
        }
        // The library writes whole gauges as signed numbers.
        (Kind::Gauge | Kind::Info, Number::Whole(number)) => {
            metric.encode_gauge(&i64::try_from(number).unwrap_or(i64::MAX))
        }
        (Kind::Gauge | Kind::Info, Number::Thousandths(number)) if number.is_multiple_of(1_000) => {
            metric.encode_gauge(&i64::try_from(number / 1_000).unwrap_or(i64::MAX))
        }
        (Kind::Gauge | Kind::Info, Number::Thousandths(number)) => {
            metric.encode_gauge(&(number as f64 / 1e3))
        }
    }
}

fn one(number: u64) -> Vec<Sample> {
    vec![(Vec::new(), number.into())]
}

fn reasons(status: &Status) -> Vec<Sample> {
    let sample = |reason: &Reason| {
        let count = status.reasons.get(reason.name()).copied().unwrap_or(0);
        (vec![action_name(reason.action()).to_owned(), reason.name().to_owned()], count.into())
    };
    Reason::ALL.iter().map(sample).collect()
}

fn services(status: &Status) -> Vec<Sample> {
    let sample = |ServiceStatus { view, .. }: &ServiceStatus| {
        let labels = [&view.scheduler, &view.discovery].into_iter().cloned();
        (service(view.name.as_str(), view.vip, view.port).chain(labels).collect(), 1.into())
    };
    status.services.iter().map(sample).collect()
}

fn capacity(status: &Status) -> Vec<Sample> {
    let director = &status.director;
    each_table([
        director.flows.into(),
        director.flows_ipv6.into(),
        director.pending_flows.into(),
        director.pending_flows_ipv6.into(),
    ])
}

fn in_use(status: &Status) -> Vec<Sample> {
    let numbers = |seen: FlowsInUse| {
        [seen.flows, seen.flows_ipv6, seen.pending_flows, seen.pending_flows_ipv6]
    };
    status.director.in_use.map(numbers).map_or_else(Vec::new, each_table)
}

/// A number of each flow table: established IPv4 and IPv6, pending the same.
fn each_table(numbers: [u64; 4]) -> Vec<Sample> {
    let tables = ["established", "pending"]
        .into_iter()
        .flat_map(|table| ["ipv4", "ipv6"].map(|family| vec![table.to_owned(), family.to_owned()]));
    tables.zip(numbers.map(Number::from)).collect()
}

fn traffic(status: &Status, number: fn(&TrafficStatus) -> u64) -> Vec<Sample> {
    each_server(status, |service, view| service.traffic.get(&view.id).map(number))
}

fn servers<N: Into<Number>>(status: &Status, number: fn(&ServerView) -> Option<N>) -> Vec<Sample> {
    each_server(status, |_, view| number(view))
}

fn each_server<N: Into<Number>>(
    status: &Status,
    number: impl Fn(&ServiceStatus, &ServerView) -> Option<N>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for of in &status.services {
        for server in &of.view.servers {
            let name = server.name.as_ref().map(ToString::to_string);
            let address = server.address.to_string();
            let labels = service(of.view.name.as_str(), of.view.vip, of.view.port)
                .chain([name.unwrap_or_else(|| address.clone()), address]);
            samples.extend(number(of, server).map(|number| (labels.collect(), number.into())));
        }
    }
    samples
}

fn probes(status: &Status) -> Vec<Sample> {
    type Finding = (&'static str, fn(&ProbeStatus) -> u64);
    const FINDINGS: [Finding; 5] = [
        ("open", |probes| probes.open),
        ("refused", |probes| probes.refused),
        ("not_accepting", |probes| probes.not_accepting),
        ("silent", |probes| probes.silent),
        ("undecided", |probes| probes.undecided),
    ];
    let of = |(finding, number): Finding| {
        let counted =
            each_server(status, |service, view| service.probes.get(&view.address).map(number));
        counted.into_iter().map(move |(mut labels, number)| {
            labels.push(finding.to_owned());
            (labels, number)
        })
    };
    FINDINGS.into_iter().flat_map(of).collect()
}

fn service(name: &str, vip: IpAddr, port: u16) -> impl Iterator<Item = String> {
    [name.to_owned(), vip.to_string(), port.to_string()].into_iter()
}
