//! `pgha nodes`: every node of every service in one line, with the columns of pgpool's `show pool_nodes`.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use pgha_machine::balancer::ServerView;
use pgha_machine::{EffectiveWeight, NodeName};
use serde::{Deserialize, Serialize};

use super::client::{self, Options};
use super::output::print;
use super::table;
use super::words::{self, or_none};
use crate::controller::state::ServerState;
use crate::controller::status::{SCHEMA, ServiceStatus, Status, TrafficStatus};

/// How the nodes are shown.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Every node of every service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nodes {
    /// [`SCHEMA`].
    schema: u32,
    nodes: Vec<Node>,
}

/// One node, as one service sees it. The names are pgpool's where it has the column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    /// The service's name.
    service: NodeName,
    /// Its address and port.
    vip: SocketAddr,
    /// Its id in the data plane; `None` where it has none because it is no member.
    id: Option<u16>,
    /// Its name, where it has one.
    name: Option<NodeName>,
    /// Its address.
    hostname: IpAddr,
    /// The service's port, which is its own.
    port: u16,
    /// `up`, `waiting`, `drained`, `out`, `down`, or `unused`: listed, and no member.
    status: String,
    /// What it has of all new connections: 0 to 1.
    lb_weight: f64,
    /// `standby`, `primary` or `unknown`.
    role: String,
    /// New connections since it has its id.
    connections: u64,
    /// Frames since then.
    packets: u64,
    /// Whether it gets new connections.
    load_balance_node: bool,
    /// WAL that it has not replayed, in bytes.
    replication_delay: Option<u64>,
    /// For how long what its readers see has been out of date, in milliseconds.
    replication_delay_ms: Option<u64>,
    /// `streaming`, where it has a walsender.
    replication_state: Option<String>,
    /// As PostgreSQL says it.
    replication_sync_state: Option<String>,
    /// Seconds since the Unix epoch; `None` where it is no member.
    last_status_change: Option<u64>,
}

/// Asks the controller, and shows the nodes.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<()> {
    let status = client::status(&options.controller()?).await?;
    print(arguments.json, &nodes(&status), text)
}

fn nodes(status: &Status) -> Nodes {
    let nodes = status.services.iter().flat_map(|service| of_service(status, service)).collect();
    Nodes { schema: SCHEMA, nodes }
}

/// The members of a service, then who is none: the primary, and listed nodes that nobody has seen.
fn of_service(status: &Status, service: &ServiceStatus) -> Vec<Node> {
    let servers = &service.view.servers;
    let all: f64 = servers.iter().map(|server| share(server.effective_weight)).sum();
    let mut nodes: Vec<_> = servers.iter().map(|server| member(service, server, all)).collect();
    let is_there = |nodes: &[Node], address| nodes.iter().any(|node| node.hostname == address);
    let primary = status.primary.as_ref().and_then(|primary| primary.host);
    if let Some(host) = primary.filter(|host| !is_there(&nodes, *host)) {
        let answers = status.primary.as_ref().is_some_and(|primary| primary.answers);
        let word = if answers { "up" } else { "down" };
        nodes.push(Node { role: "primary".to_owned(), ..outside(status, service, host, word) });
    }
    for listed in &status.nodes {
        if !is_there(&nodes, listed.address) {
            nodes.push(outside(status, service, listed.address, "unused"));
        }
    }
    nodes
}

fn share(weight: EffectiveWeight) -> f64 {
    f64::from(weight.thousandths())
}

fn member(service: &ServiceStatus, server: &ServerView, all: f64) -> Node {
    let traffic = service.traffic.get(&server.id).copied();
    let TrafficStatus { packets, flows, .. } = traffic.unwrap_or_default();
    let changed = service.changed.get(&server.id);
    Node {
        service: service.view.name.clone(),
        vip: SocketAddr::new(service.view.vip, service.view.port),
        id: Some(server.id),
        name: server.name.clone(),
        hostname: server.address,
        port: service.view.port,
        status: status_word(server).to_owned(),
        lb_weight: if all > 0.0 { share(server.effective_weight) / all } else { 0.0 },
        role: words::role(server.role).to_owned(),
        connections: flows,
        packets,
        load_balance_node: server.withheld.is_empty(),
        replication_delay: server.lag_bytes,
        replication_delay_ms: server.lag_ms,
        replication_state: server.sync_state.map(|_| "streaming".to_owned()),
        replication_sync_state: server.sync_state.map(|state| words::sync(state).to_owned()),
        last_status_change: changed.map(|changed| changed.state),
    }
}

/// pgpool says `waiting` of a node that it has not connected to yet, and knows one way to be down. Its `up` says
/// that a node can be used, which a primary can.
fn status_word(server: &ServerView) -> &'static str {
    match ServerState::of(server) {
        ServerState::Checking => "waiting",
        ServerState::Dead => ServerState::Down.word(),
        ServerState::Primary => ServerState::Up.word(),
        state @ (ServerState::Up | ServerState::Drained | ServerState::Out | ServerState::Down) => {
            state.word()
        }
    }
}

/// A node that is no member of the service.
fn outside(status: &Status, service: &ServiceStatus, address: IpAddr, word: &str) -> Node {
    let listed = status.nodes.iter().find(|node| node.address == address);
    Node {
        service: service.view.name.clone(),
        vip: SocketAddr::new(service.view.vip, service.view.port),
        id: None,
        name: listed.map(|node| node.name.clone()),
        hostname: address,
        port: service.view.port,
        status: word.to_owned(),
        lb_weight: 0.0,
        role: "unknown".to_owned(),
        connections: 0,
        packets: 0,
        load_balance_node: false,
        replication_delay: None,
        replication_delay_ms: None,
        replication_state: None,
        replication_sync_state: None,
        last_status_change: None,
    }
}

fn text(nodes: &Nodes) -> String {
    let mut rows = table::plain([
        "SERVICE",
        "ID",
        "HOST",
        "NAME",
        "PORT",
        "STATUS",
        "LB_WEIGHT",
        "ROLE",
        "CONNECTIONS",
        "PACKETS",
        "LB_NODE",
        "DELAY",
        "REPL_STATE",
        "SYNC_STATE",
        "LAST_STATUS_CHANGE",
    ]);
    for node in &nodes.nodes {
        rows.add_row([
            node.service.to_string(),
            or_none(node.id),
            node.hostname.to_string(),
            or_none(node.name.as_ref()),
            node.port.to_string(),
            node.status.clone(),
            format!("{:.3}", node.lb_weight),
            node.role.clone(),
            node.connections.to_string(),
            node.packets.to_string(),
            if node.load_balance_node { "yes" } else { "no" }.to_owned(),
            words::delay(node.replication_delay, node.replication_delay_ms),
            or_none(node.replication_state.as_ref()),
            or_none(node.replication_sync_state.as_ref()),
            or_none(node.last_status_change.map(words::moment)),
        ]);
    }
    table::lines(&rows)
}
