//! From raw values to a [`Config`]: each value by itself, and how they fit together.

mod checker;
mod failover;
mod fence;
mod lease;
mod service;
mod store;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use pgha_common::maps::MAX_SERVERS;
use pgha_machine::NodeName;
use pgha_machine::balancer::{Discovery, Node};

use super::Config;
use super::document::Document;
use super::error::ConfigError;
use super::login::{ClientCertificate, Login, SslMode, Tls};
use super::model::{Api, Director, HealthTimings, Peer, Primary, Vlan};
use super::raw::{
    OneOrMore, RawApi, RawConfig, RawDirector, RawHealth, RawManaged, RawNode, RawPeer,
    RawPostgres, RawPrimary, RawService,
};
use super::schema::{self, SSLMODES, VLANS};
use checker::{Asker, Checker, Unique};
use lease::lease;
use service::service;
use store::store;

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
    let api = api(checks, raw.api);
    let lease = lease(checks, raw.lease);
    let store = store(checks, raw.store, cluster.as_ref(), lease);
    let (listed, offered) = (raw.node.len(), raw.service.len());
    let services = each(checks, "service", raw.service, service);
    let nodes = each(checks, "node", raw.node, node);
    let listed_nodes =
        nodes.as_ref().map(|nodes| nodes.iter().map(|(node, _)| node.clone()).collect());
    let failover = failover::failover(checks, raw.failover, raw.controller, raw.fence, nodes);
    let manages = raw.agent.is_some();
    let agent =
        raw.agent.map(|raw| failover::agent(checks, raw, cluster.as_ref(), failover.as_ref()));
    let known = failover.as_ref().and_then(Option::as_ref);
    failover::ground(checks, known, manages, api.as_ref(), store.as_ref());
    let named = raw.primary.is_some();
    let primary = match raw.primary {
        Some(raw) => Some(primary(checks, raw)),
        None => failover::asked(checks, known).map(Some),
    };
    sources(checks, offered, named, listed);
    let services = failover::services(checks, services, known);
    room(checks, listed);
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
        api: api?,
        store: store?,
        lease: lease?,
        services: services?,
        nodes: listed_nodes?,
        failover: failover?,
        agent: match agent {
            Some(agent) => Some(agent?),
            None => None,
        },
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
    let passfile = maybe_path(checks, "postgres.passfile", raw.passfile);
    let root = maybe_path(checks, "postgres.sslrootcert", raw.sslrootcert);
    let certificate = maybe_path(checks, "postgres.sslcert", raw.sslcert);
    let key = maybe_path(checks, "postgres.sslkey", raw.sslkey);
    let mode = checks.choice("postgres.sslmode", raw.sslmode, SSLMODES, sslmode_named);
    let client = pair(checks, ("postgres.sslcert", certificate?), ("postgres.sslkey", key?))?;
    let client = client.map(|(certificate, key)| ClientCertificate { certificate, key });
    let tls = tls(checks, mode?, root?, client);
    Some(Login { user: user?, dbname: dbname?, passfile: passfile?, tls: tls? })
}

/// A client certificate and its key, or neither; given by the keys of both.
fn pair(
    checks: &mut Checker,
    (certificate_key, certificate): (&'static str, Option<PathBuf>),
    (key_key, key): (&'static str, Option<PathBuf>),
) -> Option<Option<(PathBuf, PathBuf)>> {
    let (missing, given) = match (certificate, key) {
        (Some(certificate), Some(key)) => return Some(Some((certificate, key))),
        (None, None) => return Some(None),
        (Some(_), None) => (key_key, certificate_key),
        (None, Some(_)) => (certificate_key, key_key),
    };
    let at = checks.at(missing);
    checks.fail(ConfigError::HalfCertificate { at, given: schema::split(given).1 });
    None
}

/// A path, or nothing.
fn maybe_path(checks: &mut Checker, key: &str, value: Option<String>) -> Option<Option<PathBuf>> {
    match value {
        Some(path) => checks.absolute(key, path).map(Some),
        None => Some(None),
    }
}

fn tls(
    checks: &mut Checker,
    mode: SslMode,
    root: Option<PathBuf>,
    client: Option<ClientCertificate>,
) -> Option<Tls> {
    if root.is_none() && mode >= SslMode::VerifyCa && !checks.refused("postgres.sslrootcert") {
        let at = checks.at("postgres.sslrootcert");
        checks.fail(ConfigError::NoRoot { at, mode: mode.name() });
        return None;
    }
    Some(Tls { mode, root, client })
}

fn sslmode_named(name: &str) -> Option<SslMode> {
    SslMode::ALL.into_iter().find(|mode| mode.name() == name)
}

fn health(checks: &mut Checker, raw: RawHealth) -> Option<HealthTimings> {
    let interval = checks.duration("health.interval", raw.interval);
    let timeout = checks.duration("health.timeout", raw.timeout);
    let rise = checks.integer("health.rise", raw.rise);
    let fall = checks.integer("health.fall", raw.fall);
    Some(HealthTimings { interval: interval?, timeout: timeout?, rise: rise?, fall: fall? })
}

fn api(checks: &mut Checker, raw: RawApi) -> Option<Api> {
    let listen = match raw.listen {
        Some(listen) => one_or_more(checks, "api.listen", Some(listen), Checker::listener),
        None => Some(Vec::new()),
    };
    let tls = checks.path("api.tls", raw.tls);
    Some(Api { listen: listen?, tls: tls? })
}

fn vlan_named(name: &str) -> Option<Vlan> {
    [Vlan::Pass, Vlan::Forward].into_iter().find(|vlan| vlan.name() == name)
}

fn node(checks: &mut Checker, at: &str, raw: RawNode) -> Option<(Node, failover::Part)> {
    let key = |name: &str| format!("{at}.{name}");
    let name = checks.own_name(Unique::NodeName, &key("name"), raw.name);
    let address = checks.required(&key("address"), raw.address);
    let address = address
        .and_then(|address| checks.own_address(Unique::NodeAddress, &key("address"), address));
    let weight = match raw.weight {
        Some(weight) => checks.weight(&key("weight"), Some(weight)).map(Some),
        None => Some(None),
    };
    let RawNode { agent, replication_user, nofailover, priority, .. } = raw;
    let managed = RawManaged { agent, replication_user, nofailover, priority };
    let managed = failover::managed(checks, at, managed);
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
    Some((Node { name, address, weight: weight? }, managed?))
}

fn primary(checks: &mut Checker, raw: RawPrimary) -> Option<Primary> {
    let port = checks.integer("primary.port", raw.port);
    let hosts = checks.required("primary.hosts", raw.hosts)?;
    let hosts = some(checks, "primary.hosts", hosts, Checker::host);
    let (hosts, port) = (hosts?, port?);
    let hosts: Vec<_> = hosts
        .into_iter()
        .map(|(address, own)| SocketAddr::new(address, own.unwrap_or(port)))
        .collect();
    let mut fit = true;
    for (index, host) in hosts.iter().enumerate() {
        let key = format!("primary.hosts[{index}]");
        fit &= checks.unique(Unique::PrimaryHost, &key, host.to_string());
    }
    fit.then_some(Primary { hosts })
}

/// Whether every listed node can be a real server of each service that lists them.
fn room(checks: &mut Checker, nodes: usize) {
    let lists = |asker: &&Asker| asker.discovery.lists();
    let services = checks.askers.iter().filter(lists).count();
    if services * nodes > MAX_SERVERS {
        let at = checks.at("node");
        checks.fail(ConfigError::TooManyServers { at, services, nodes, most: MAX_SERVERS });
    }
}

/// Each service's discovery needs its source: the primary, the listed nodes, or both.
fn sources(checks: &mut Checker, services: usize, primary_named: bool, nodes: usize) {
    if services == 0 && !checks.refused("service") {
        let at = checks.at("service");
        checks.fail(ConfigError::NoService { at });
    }
    let asks = |asker: fn(Discovery) -> bool| move |candidate: &&Asker| asker(candidate.discovery);
    let to_primary = checks.askers.iter().find(asks(Discovery::welcomes)).cloned();
    if let (Some(Asker { service, discovery }), false, false) =
        (to_primary, primary_named, checks.refused("primary"))
    {
        let at = checks.at("primary.hosts");
        checks.fail(ConfigError::NoPrimary { at, service, discovery });
    }
    let to_nodes = checks.askers.iter().find(asks(Discovery::lists)).cloned();
    if let (Some(Asker { service, discovery }), 0, false) =
        (to_nodes, nodes, checks.refused("node"))
    {
        let at = checks.at("node");
        checks.fail(ConfigError::NoNodes { at, service, discovery });
    }
}
