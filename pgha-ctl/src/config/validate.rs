//! From raw values to a [`Config`]: each value by itself, and how they fit together.

mod checker;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pgha_machine::NodeName;
use pgha_machine::balancer::{
    AutoWeight, Discovery, LagLimits, Node, Probe, Scheduler, Service, SynLimit,
};

use super::Config;
use super::document::Document;
use super::error::ConfigError;
use super::login::Login;
use super::model::{Director, HealthTimings, Peer, Primary, Vlan};
use super::raw::{
    OneOrMore, RawConfig, RawDirector, RawHealth, RawNode, RawPeer, RawPostgres, RawPrimary,
    RawService,
};
use super::schema::{self, DISCOVERIES, SCHEDULERS, VLANS};
use checker::{Asker, Checker, Unique};

impl TryFrom<Document> for Config {
    type Error = Vec<ConfigError>;

    fn try_from(document: Document) -> Result<Self, Self::Error> {
        let Document { raw, places, errors } = document;
        let mut checks = Checker::new(places, errors);
        let config = config(&mut checks, raw);
        let errors = checks.finish();
        config.filter(|_| errors.is_empty()).ok_or(errors)
    }
}

/// `None` after at least one error; no step is skipped because an earlier one failed.
fn config(checks: &mut Checker, raw: RawConfig) -> Option<Config> {
    let cluster = checks.cluster("cluster", raw.cluster);
    let ipv6 = raw.service.iter().any(has_ipv6_vip);
    let director = director(checks, raw.director, cluster.as_ref(), ipv6);
    let login = login(checks, raw.postgres);
    let health = health(checks, raw.health);
    let (listed, offered) = (raw.node.len(), raw.service.len());
    let services = each(checks, "service", raw.service, service);
    let nodes = each(checks, "node", raw.node, node);
    let named = raw.primary.is_some();
    let primary = raw.primary.map(|raw| primary(checks, raw));
    sources(checks, offered, named, listed);
    checks.vips_are_nobodys_own();
    Some(Config {
        cluster: cluster?,
        director: director?,
        login: login?,
        primary: match primary {
            Some(primary) => Some(primary?),
            None => None,
        },
        health: health?,
        services: services?,
        nodes: nodes?,
    })
}

/// Judges every entry of the list `name`.
fn each<R, T>(
    checks: &mut Checker,
    name: &str,
    raw: Vec<R>,
    judge: fn(&mut Checker, &str, R) -> Option<T>,
) -> Option<Vec<T>> {
    let fit = checks.fit(name, raw.len());
    let judged: Vec<_> = raw
        .into_iter()
        .enumerate()
        .map(|(index, raw)| judge(checks, &format!("{name}[{index}]"), raw))
        .collect();
    judged.into_iter().collect::<Option<_>>().filter(|_| fit)
}

/// Judges the one value of `key`, or each in its list.
fn one_or_more<T>(
    checks: &mut Checker,
    key: &str,
    raw: Option<OneOrMore>,
    judge: fn(&mut Checker, &str, String) -> Option<T>,
) -> Option<Vec<T>> {
    match checks.required(key, raw)? {
        OneOrMore::One(value) => judge(checks, key, value).map(|value| vec![value]),
        OneOrMore::More(values) => some(checks, key, values, judge),
    }
}

/// Judges every entry of the list of `key`, which must have one.
fn some<T>(
    checks: &mut Checker,
    key: &str,
    values: Vec<String>,
    judge: fn(&mut Checker, &str, String) -> Option<T>,
) -> Option<Vec<T>> {
    if values.is_empty() {
        let at = checks.at(key);
        let example = schema::find(key).map_or("", |entry| entry.example);
        checks.fail(ConfigError::Empty { at, example });
        return None;
    }
    each(checks, key, values, judge)
}

/// How large the tables of IPv6 flows are that nobody needs: the least there is.
const UNUSED_TABLE: u32 = 1_024;

fn has_ipv6_vip(service: &RawService) -> bool {
    service.vip.as_ref().is_some_and(|vip| vip.parse::<Ipv6Addr>().is_ok())
}

fn director(
    checks: &mut Checker,
    raw: RawDirector,
    cluster: Option<&NodeName>,
    ipv6: bool,
) -> Option<Director> {
    let interfaces = one_or_more(checks, "director.interface", raw.interface, Checker::interface);
    let vlan = checks.choice("director.vlan", raw.vlan, VLANS, vlan_named);
    let bpffs = checks.path("director.bpffs", raw.bpffs);
    let control = raw.control.or_else(|| cluster.map(control_of));
    let control = control.and_then(|path| checks.socket("director.control", path));
    let log_packets = checks.boolean("director.log_packets", raw.log_packets);
    let flows = checks.integer("director.flows", raw.flows);
    let for_ipv6 = |flows: Option<u32>| if ipv6 { flows } else { Some(UNUSED_TABLE) };
    let flows_ipv6 = match raw.flows_ipv6 {
        Some(flows) => checks.integer("director.flows_ipv6", Some(flows)),
        None => for_ipv6(flows),
    };
    let pending_flows = checks.integer("director.pending_flows", raw.pending_flows);
    let peers = each(checks, "director.peer", raw.peer, peer);
    Some(Director {
        interfaces: interfaces?,
        vlan: vlan?,
        bpffs: bpffs?,
        control: control?,
        log_packets: log_packets?,
        flows: flows?,
        flows_ipv6: flows_ipv6?,
        pending_flows: pending_flows?,
        pending_flows_ipv6: for_ipv6(pending_flows)?,
        peers: peers?,
    })
}

/// Where the control socket of a cluster is unless told otherwise.
fn control_of(cluster: &NodeName) -> String {
    format!("/run/pgha/{cluster}.sock")
}

/// The control socket, if what names it is legible, whatever else is wrong.
pub(super) fn control(raw: RawConfig) -> Option<PathBuf> {
    let named = raw.director.control;
    named.or_else(|| Some(control_of(&raw.cluster?.parse().ok()?))).map(PathBuf::from)
}

fn peer(checks: &mut Checker, at: &str, raw: RawPeer) -> Option<Peer> {
    let name = checks.own_name(Unique::PeerName, &format!("{at}.name"), raw.name);
    let own: fn(&mut Checker, &str, String) -> Option<IpAddr> =
        |checks, key, value| checks.own_address(Unique::PeerAddress, key, value);
    let addresses = one_or_more(checks, &format!("{at}.address"), raw.address, own);
    Some(Peer { name: name?, addresses: addresses? })
}

fn login(checks: &mut Checker, raw: RawPostgres) -> Option<Login> {
    let user = checks.identifier("postgres.user", raw.user);
    let dbname = checks.identifier("postgres.dbname", raw.dbname);
    let passfile = match raw.passfile {
        Some(path) => checks.absolute("postgres.passfile", path).map(Some),
        None => Some(None),
    };
    Some(Login { user: user?, dbname: dbname?, passfile: passfile? })
}

fn health(checks: &mut Checker, raw: RawHealth) -> Option<HealthTimings> {
    let interval = checks.duration("health.interval", raw.interval);
    let timeout = checks.duration("health.timeout", raw.timeout);
    let rise = checks.integer("health.rise", raw.rise);
    let fall = checks.integer("health.fall", raw.fall);
    Some(HealthTimings { interval: interval?, timeout: timeout?, rise: rise?, fall: fall? })
}

fn service(checks: &mut Checker, at: &str, raw: RawService) -> Option<Service> {
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
        lag: LagLimits::default(),
        auto_weight: AutoWeight::default(),
        slow_start: Duration::ZERO,
        probe: Probe::Off,
        fallback_to_primary: false,
    })
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

fn vlan_named(name: &str) -> Option<Vlan> {
    [Vlan::Pass, Vlan::Forward].into_iter().find(|vlan| vlan.name() == name)
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
    [Discovery::Walsenders, Discovery::Direct, Discovery::Both]
        .into_iter()
        .find(|discovery| discovery.name() == name)
}

fn node(checks: &mut Checker, at: &str, raw: RawNode) -> Option<Node> {
    let key = |name: &str| format!("{at}.{name}");
    let name = checks.own_name(Unique::NodeName, &key("name"), raw.name);
    let address = checks.required(&key("address"), raw.address);
    let address = address
        .and_then(|address| checks.own_address(Unique::NodeAddress, &key("address"), address));
    let weight = match raw.weight {
        Some(weight) => checks.weight(&key("weight"), Some(weight)).map(Some),
        None => Some(None),
    };
    if let Some(name) = &name {
        checks.nodes.insert(name.clone(), address);
    }
    let (name, address) = (name?, address?);
    let reads_as: Option<IpAddr> = name.as_str().parse().ok();
    if reads_as.is_some_and(|other| other != address) {
        let at = checks.at(&key("name"));
        checks.fail(ConfigError::MisleadingName { at, name, address });
        return None;
    }
    Some(Node { name, address, weight: weight? })
}

fn primary(checks: &mut Checker, raw: RawPrimary) -> Option<Primary> {
    let port = checks.integer("primary.port", raw.port);
    let hosts = checks.required("primary.hosts", raw.hosts)?;
    let hosts = some(checks, "primary.hosts", hosts, Checker::host);
    Some(Primary { hosts: hosts?, port: port? })
}

/// Each service's discovery needs its source: the primary, the listed nodes, or both.
fn sources(checks: &mut Checker, services: usize, primary_named: bool, nodes: usize) {
    if services == 0 && !checks.refused("service") {
        let at = checks.at("service");
        checks.fail(ConfigError::NoService { at });
    }
    let asks = |asker: fn(Discovery) -> bool| move |candidate: &&Asker| asker(candidate.discovery);
    let to_primary =
        checks.askers.iter().find(asks(|discovery| discovery != Discovery::Direct)).cloned();
    if let (Some(Asker { service, discovery }), false, false) =
        (to_primary, primary_named, checks.refused("primary"))
    {
        let at = checks.at("primary.hosts");
        checks.fail(ConfigError::NoPrimary { at, service, discovery });
    }
    let to_nodes =
        checks.askers.iter().find(asks(|discovery| discovery != Discovery::Walsenders)).cloned();
    if let (Some(Asker { service, discovery }), 0, false) =
        (to_nodes, nodes, checks.refused("node"))
    {
        let at = checks.at("node");
        checks.fail(ConfigError::NoNodes { at, service, discovery });
    }
}
