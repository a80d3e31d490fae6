//! One `[[service]]`.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use pgha_machine::NodeName;
use pgha_machine::balancer::{
    AutoWeight, Discovery, LagLimits, Limit, Probe, Scheduler, Service, SynLimit,
};

use super::checker::{Asker, Checker, Unique};
use super::each;
use crate::config::error::ConfigError;
use crate::config::raw::RawService;
use crate::config::schema::{AUTO_WEIGHTS, DISCOVERIES, PROBES, SCHEDULERS};

pub(super) fn service(checks: &mut Checker, at: &str, raw: RawService) -> Option<Service> {
    let key = |name: &str| format!("{at}.{name}");
    let name = checks.own_name(Unique::ServiceName, &key("name"), raw.name);
    let vip = checks.required(&key("vip"), raw.vip);
    let vip = vip.and_then(|vip| checks.address(&key("vip"), vip));
    let port = checks.integer(&key("port"), raw.port);
    let scheduler = checks.choice(&key("scheduler"), raw.scheduler, SCHEDULERS, scheduler_named);
    let discovery = checks.choice(&key("discovery"), raw.discovery, DISCOVERIES, discovery_named);
    let default_weight = checks.weight(&key("default_weight"), raw.default_weight);
    let allowed_clients = match raw.allowed_clients {
        Some(networks) => allowed_clients(checks, &key("allowed_clients"), networks, vip),
        None => Some(Vec::new()),
    };
    let syn_limit = syn_limit(checks, at, raw.syn_rate, raw.syn_burst);
    let limited = raw.max_lag_bytes.is_some() || raw.max_lag.is_some();
    let bytes = (raw.max_lag_bytes, raw.return_lag_bytes);
    let lag = lag(checks, at, bytes, (raw.max_lag, raw.return_lag));
    let auto_weight = auto_weight(checks, at, raw.auto_weight, limited);
    let slow_start = checks.duration(&key("slow_start"), raw.slow_start);
    let probe = checks.choice(&key("probe"), raw.probe, PROBES, probe_named);
    let fallback_to_primary = checks.boolean(&key("fallback_to_primary"), raw.fallback_to_primary);

    let label = name.as_ref().map_or_else(|| at.to_owned(), NodeName::to_string);
    if let Some(discovery) = discovery {
        checks.askers.push(Asker { service: label.clone(), discovery });
    }
    if let Some(vip) = vip {
        checks.vips.entry(vip).or_insert(label);
    }
    if let Some((vip, port)) = vip.zip(port) {
        checks.unique(Unique::Endpoint, &key("vip"), SocketAddr::new(vip, port).to_string());
    }
    Some(Service {
        name: name?,
        vip: vip?,
        port: port?,
        scheduler: scheduler?,
        discovery: discovery?,
        default_weight: default_weight?,
        allowed_clients: allowed_clients?,
        syn_limit: syn_limit?,
        lag: lag?,
        auto_weight: auto_weight?,
        slow_start: slow_start?,
        probe: probe?,
        fallback_to_primary: fallback_to_primary?,
    })
}

/// The lag limits: each a limit and where a server returns.
fn lag(
    checks: &mut Checker,
    at: &str,
    (max_bytes, return_bytes): (Option<i64>, Option<i64>),
    (max_time, return_time): (Option<String>, Option<String>),
) -> Option<LagLimits> {
    let bytes = limit(
        checks,
        at,
        ("max_lag_bytes", max_bytes),
        ("return_lag_bytes", return_bytes),
        |checks, key, value| checks.integer::<u64>(key, Some(value)),
        |bytes| bytes / 2,
    );
    let time = limit(
        checks,
        at,
        ("max_lag", max_time),
        ("return_lag", return_time),
        |checks, key, value| checks.duration(key, Some(value)),
        |time: Duration| time / 2,
    );
    Some(LagLimits { bytes: bytes?, time: time? })
}

/// One limit; the inner `None` sets none.
fn limit<R, T: Copy + Ord>(
    checks: &mut Checker,
    at: &str,
    (limit, drain): (&'static str, Option<R>),
    (name, back): (&str, Option<R>),
    judge: fn(&mut Checker, &str, R) -> Option<T>,
    half: fn(T) -> T,
) -> Option<Option<Limit<T>>> {
    let (limit_key, key) = (format!("{at}.{limit}"), format!("{at}.{name}"));
    let Some(drain) = drain else {
        if back.is_none() || checks.refused(&limit_key) {
            return Some(None);
        }
        let at = checks.at(&key);
        checks.fail(ConfigError::ReturnWithoutLimit { at, limit });
        return None;
    };
    let drain = judge(checks, &limit_key, drain);
    let back = match back {
        Some(back) => judge(checks, &key, back),
        None => drain.map(half),
    };
    let (drain, back) = (drain?, back?);
    if back > drain {
        let at = checks.at(&key);
        checks.fail(ConfigError::ReturnBeyondLimit { at, limit });
        return None;
    }
    Some(Some(Limit { drain, back }))
}

fn auto_weight(
    checks: &mut Checker,
    at: &str,
    names: Option<Vec<String>>,
    limited: bool,
) -> Option<AutoWeight> {
    let key = format!("{at}.auto_weight");
    let mut auto = AutoWeight::default();
    for (index, name) in names.into_iter().flatten().enumerate() {
        let entry = format!("{key}[{index}]");
        let chosen = checks.one_of(&entry, name, AUTO_WEIGHTS)?;
        let wanted = if chosen == "lag" { &mut auto.lag } else { &mut auto.connections };
        *wanted = true;
    }
    if auto.lag && !limited {
        let at = checks.at(&key);
        checks.fail(ConfigError::AutoWeightWithoutLimit { at });
        return None;
    }
    Some(auto)
}

fn probe_named(name: &str) -> Option<Probe> {
    [Probe::Off, Probe::Syn, Probe::Startup].into_iter().find(|probe| probe.name() == name)
}

fn allowed_clients(
    checks: &mut Checker,
    key: &str,
    networks: Vec<String>,
    vip: Option<IpAddr>,
) -> Option<Vec<IpNet>> {
    if networks.is_empty() {
        let at = checks.at(key);
        checks.fail(ConfigError::NoNetworks { at });
        return None;
    }
    let networks = each(checks, key, networks, Checker::network)?;
    let vip = vip?;
    let mut fit = true;
    for (index, network) in networks.iter().enumerate() {
        if network.addr().is_ipv4() != vip.is_ipv4() {
            let at = checks.at(&format!("{key}[{index}]"));
            checks.fail(ConfigError::OtherFamily { at, network: *network, vip });
            fit = false;
        }
    }
    fit.then_some(networks)
}

/// The inner `None` sets no limit.
fn syn_limit(
    checks: &mut Checker,
    at: &str,
    rate: Option<i64>,
    burst: Option<i64>,
) -> Option<Option<SynLimit>> {
    let (rate_key, burst_key) = (format!("{at}.syn_rate"), format!("{at}.syn_burst"));
    let rate: Option<u32> = checks.integer(&rate_key, rate);
    let given = burst.is_some();
    let burst: Option<u32> = match burst {
        Some(burst) => checks.integer(&burst_key, Some(burst)),
        None => rate,
    };
    if rate == Some(0) && given && !checks.refused(&rate_key) {
        let at = checks.at(&burst_key);
        checks.fail(ConfigError::BurstWithoutRate { at });
        return None;
    }
    let limit = NonZeroU32::new(rate?).zip(NonZeroU32::new(burst?));
    Some(limit.map(|(rate, burst)| SynLimit { rate, burst }))
}

fn scheduler_named(name: &str) -> Option<Scheduler> {
    match name {
        "maglev" => Some(Scheduler::Maglev),
        "rr" => Some(Scheduler::RoundRobin),
        "source" => Some(Scheduler::Source),
        "least" => Some(Scheduler::Least),
        _ => None,
    }
}

fn discovery_named(name: &str) -> Option<Discovery> {
    [Discovery::Walsenders, Discovery::Direct, Discovery::Both, Discovery::Agents]
        .into_iter()
        .find(|discovery| discovery.name() == name)
}
