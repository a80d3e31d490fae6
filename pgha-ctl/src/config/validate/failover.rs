//! `[failover]`, `[[controller]]`, `[agent]`, and what makes a `[[node]]` a managed one.

use std::collections::BTreeMap;

use pgha_machine::NodeName;
use pgha_machine::balancer::{Discovery, Node, Service};
use pgha_machine::failover::record::Mode;

use super::checker::{Checker, Unique};
use super::{each, fence, maybe_path, sslmode_named};
use crate::config::address::Address;
use crate::config::document::nearest;
use crate::config::error::ConfigError;
use crate::config::etcd::StorePlace;
use crate::config::failover::{Agent, Failover, Managed, Pick, Writer};
use crate::config::model::{Api, Primary};
use crate::config::raw::{RawAgent, RawController, RawFailover, RawFence, RawManaged};
use crate::config::schema::{MODES, PICKS, SSLMODES, WRITERS};

/// What a `[[node]]` says of its agent, before its address is known.
#[derive(Debug)]
pub(super) struct Part {
    agent: Option<Address>,
    replication_user: Option<String>,
    nofailover: bool,
    priority: i32,
}

/// The part of a `[[node]]` entry that is about its agent.
pub(super) fn managed(checks: &mut Checker, at: &str, raw: RawManaged) -> Option<Part> {
    let key = |name: &str| format!("{at}.{name}");
    let agent = match raw.agent {
        Some(agent) => address(checks, &key("agent"), agent).map(Some),
        None => Some(None),
    };
    let user = match raw.replication_user {
        Some(user) => checks.identifier(&key("replication_user"), Some(user)).map(Some),
        None => Some(None),
    };
    let nofailover = checks.boolean(&key("nofailover"), raw.nofailover);
    let priority = checks.integer(&key("priority"), raw.priority);
    Some(Part {
        agent: agent?,
        replication_user: user?,
        nofailover: nofailover?,
        priority: priority?,
    })
}

/// The managed nodes together, where there are some.
pub(super) fn failover(
    checks: &mut Checker,
    raw: RawFailover,
    controllers: Vec<RawController>,
    fences: Vec<RawFence>,
    nodes: Option<Vec<(Node, Part)>>,
) -> Option<Option<Failover>> {
    let mode = mode(checks, &raw);
    let pick = checks.choice("failover.pick", raw.pick, PICKS, pick_named);
    let port = checks.integer("failover.port", raw.port);
    let sslmode = checks.choice("failover.sslmode", raw.sslmode, SSLMODES, sslmode_named);
    let vip = match raw.writer_vip {
        Some(vip) => writer_vip(checks, vip).map(Some),
        None => Some(None),
    };
    let writer = checks.choice("failover.writer", raw.writer, WRITERS, writer_named);
    let controllers = each(checks, "controller", controllers, controller);
    let fences = each(checks, "fence", fences, fence::device);
    let fence_timeout = checks.duration("failover.fence_timeout", raw.fence_timeout);
    let members: Vec<_> = nodes?.into_iter().filter_map(member).collect();
    let mut fit = true;
    for member in &members {
        fit &= checks.unique(
            Unique::ReplicationUser,
            "node",
            format!("{} (replication_user)", member.replication_user),
        );
    }
    let of_members =
        |checks: &mut Checker, key: &str, node: &NodeName| is_among(checks, key, node, &members);
    let fences = fences.and_then(|fences| fence::of_members(checks, fences, of_members));
    let failover = Failover {
        mode: mode?,
        pick: pick?,
        port: port?,
        sslmode: sslmode?,
        writer_vip: vip?,
        writer: writer?,
        members,
        controllers: controllers?.into_iter().collect::<BTreeMap<_, _>>(),
        fences: fences?,
        fence_timeout: fence_timeout?,
    };
    fit.then(|| (!failover.members.is_empty()).then_some(failover))
}

fn member((node, part): (Node, Part)) -> Option<Managed> {
    let own = || node.name.to_string();
    Some(Managed {
        agent: part.agent?,
        replication_user: part.replication_user.unwrap_or_else(own),
        name: node.name,
        address: node.address,
        nofailover: part.nofailover,
        priority: part.priority,
    })
}

fn mode(checks: &mut Checker, raw: &RawFailover) -> Option<Mode> {
    let max_lag = checks.integer("failover.max_lag_bytes", raw.max_lag_bytes);
    let quorum = checks.integer("failover.quorum", raw.quorum);
    let name = checks.one_of_default("failover.mode", raw.mode.clone(), MODES);
    let (max_lag, quorum) = (max_lag?, quorum?);
    Some(match name? {
        "async" => Mode::Async { max_lag },
        "strict" => Mode::Strict { quorum },
        _ => Mode::Sync { quorum, max_lag },
    })
}

fn pick_named(name: &str) -> Option<Pick> {
    Pick::ALL.into_iter().find(|pick| pick.name() == name)
}

fn writer_named(name: &str) -> Option<Writer> {
    Writer::ALL.into_iter().find(|writer| writer.name() == name)
}

fn writer_vip(checks: &mut Checker, value: String) -> Option<std::net::IpAddr> {
    let key = "failover.writer_vip";
    let vip = checks.address(key, value)?;
    if let Some(service) = checks.vips.get(&vip).cloned() {
        let at = checks.at(key);
        checks.fail(ConfigError::IsVip { at, address: vip, service });
        return None;
    }
    checks.vips.insert(vip, "failover.writer_vip".to_owned());
    Some(vip)
}

fn controller(checks: &mut Checker, at: &str, raw: RawController) -> Option<(NodeName, Address)> {
    // Messages are told apart by whom they are from: a controller beside an agent has a name of its own.
    let name = checks.own_name(Unique::NodeName, &format!("{at}.name"), raw.name);
    let key = format!("{at}.address");
    let at = checks.required(&key, raw.address);
    let at = at.and_then(|value| address(checks, &key, value));
    Some((name?, at?))
}

fn address(checks: &mut Checker, key: &str, value: String) -> Option<Address> {
    match value.parse::<Address>() {
        Ok(address) => checks.unique(Unique::Process, key, value).then_some(address),
        Err(source) => {
            let at = checks.at(key);
            checks.fail(ConfigError::Process { at, source });
            None
        }
    }
}

/// This node's part.
pub(super) fn agent(
    checks: &mut Checker,
    raw: RawAgent,
    cluster: Option<&NodeName>,
    failover: Option<&Option<Failover>>,
) -> Option<Agent> {
    let node = checks.name("agent.node", raw.node);
    let node = node.filter(|node| is_managed(checks, node, failover));
    let data = checks.path("agent.data", raw.data);
    let bin = checks.path("agent.bin", raw.bin);
    let user = checks.identifier("agent.user", raw.user);
    let role = checks.identifier("agent.role", raw.role);
    let config_file = match raw.config_file {
        Some(path) => checks.absolute("agent.config_file", path),
        None => data.as_ref().map(|data| data.join("postgresql.conf")),
    };
    let passfile = maybe_path(checks, "agent.passfile", raw.passfile);
    let runtime = raw.runtime.or_else(|| cluster.map(|name| format!("/run/pgha/{name}.agent")));
    let runtime = runtime.and_then(|path| checks.absolute("agent.runtime", path));
    let state = raw.state.or_else(|| cluster.map(|name| format!("/var/lib/pgha/{name}.agent")));
    let state = state.and_then(|path| checks.absolute("agent.state", path));
    let cgroup = maybe_path(checks, "agent.cgroup", raw.cgroup);
    let local_clients = checks.boolean("agent.local_clients", raw.local_clients);
    let guardian = checks.boolean("agent.guardian", raw.guardian);
    let restarts = checks.integer("agent.restarts", raw.restarts);
    let hand_over = checks.boolean("agent.hand_over", raw.hand_over);
    let write_timeout = checks.duration("agent.write_timeout", raw.write_timeout);
    Some(Agent {
        node: node?,
        data: data?,
        bin: bin?,
        user: user?,
        config_file: config_file?,
        role: role?,
        passfile: passfile?,
        runtime: runtime?,
        state: state?,
        cgroup: cgroup?,
        local_clients: local_clients?,
        guardian: guardian?,
        restarts: restarts?,
        hand_over: hand_over?,
        write_timeout: write_timeout?,
    })
}

/// Whether the agent's node is listed. What is wrong with the list was told before.
fn is_managed(checks: &mut Checker, node: &NodeName, failover: Option<&Option<Failover>>) -> bool {
    let Some(failover) = failover else { return true };
    let members = failover.as_ref().map_or(&[][..], Failover::members);
    is_among(checks, "agent.node", node, members)
}

fn is_among(checks: &mut Checker, key: &str, node: &NodeName, members: &[Managed]) -> bool {
    if members.iter().any(|member| member.name == *node) {
        return true;
    }
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    let suggestion = nearest(node.as_str(), &names);
    let at = checks.at(key);
    checks.fail(ConfigError::NotManaged { at, node: node.clone(), suggestion });
    false
}

/// The services, with the directors' own one for writers, which goes by the record as `agents` does.
pub(super) fn services(
    checks: &mut Checker,
    services: Option<Vec<Service>>,
    failover: Option<&Failover>,
) -> Option<Vec<Service>> {
    let agents = checks.askers.iter().find(|asker| asker.discovery == Discovery::Agents).cloned();
    if let (Some(asker), None, false) = (&agents, failover, checks.refused("node")) {
        let at = checks.at("node");
        checks.fail(ConfigError::NothingManaged { at, service: asker.service.clone() });
    }
    let Some(failover) = failover else { return services };
    let balanced = failover.writer == Writer::Balancer;
    if balanced && failover.writer_vip.is_none() && !checks.refused("failover.writer_vip") {
        let at = checks.at("failover.writer_vip");
        checks.fail(ConfigError::WriterWithoutVip { at });
    }
    let what = match (balanced, agents) {
        (true, _) => Some("writer = \"balancer\"".to_owned()),
        (false, Some(asker)) => {
            Some(format!("discovery = \"agents\" of service {}", asker.service))
        }
        (false, None) => None,
    };
    if let (Some(what), true, false) =
        (what, failover.controllers.is_empty(), checks.refused("controller"))
    {
        let at = checks.at("controller");
        checks.fail(ConfigError::NoCoordinator { at, what });
    }
    let mut services = services?;
    if balanced {
        let name = Writer::SERVICE;
        checks.unique(Unique::ServiceName, "failover.writer", name.to_owned());
        services.extend(name.parse().ok().and_then(|name| failover.writer_service(name)));
    }
    Some(services)
}

/// Where the primary may be, where nobody says so and a service asks the managed nodes.
pub(super) fn asked(checks: &Checker, failover: Option<&Failover>) -> Option<Primary> {
    let asks = checks.askers.iter().any(|asker| asker.discovery == Discovery::Agents);
    failover.filter(|_| asks).map(Failover::primary)
}

/// What managed nodes need besides: a port to be told by, and one place for the record.
pub(super) fn ground(
    checks: &mut Checker,
    failover: Option<&Failover>,
    agent: bool,
    api: Option<&Api>,
    store: Option<&StorePlace>,
) {
    let Some(failover) = failover else { return };
    if agent && api.is_some_and(|api| api.listen.is_empty()) && !checks.refused("api.listen") {
        let at = checks.at("api.listen");
        checks.fail(ConfigError::AgentWithoutPort { at });
    }
    let count = failover.controllers.len();
    if count != 1 && matches!(store, Some(StorePlace::Local(_))) && !checks.refused("controller") {
        let at = checks.at("controller");
        checks.fail(ConfigError::OneController { at, count });
    }
}
