//! What operators ask of the controller.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use pgha_common::verdict::Reason;
use pgha_machine::director::Role;

use super::Controller;
use super::api::Request;
use super::named::Endpoint;
use super::state::StateStatus;
use super::status::{
    DirectorStatus, NodeStatus, PeerStatus, Refusal, SCHEMA, ServiceStatus, Status, TrafficStatus,
    Unserved,
};
use crate::bpf::xdp::{FlowCapacity, Mode, XdpError};
use crate::clock::unix_ms;

impl Controller {
    /// Answers one request.
    pub(super) async fn answer(&mut self, request: Request) {
        // Whoever asked may be gone by now.
        match request {
            Request::Status(reply) => {
                self.program_what_waits();
                let _ = reply.send(self.status().map_err(Refusal::of));
            }
            Request::Order(order, by, reply) => self.order(&order, by, reply),
            Request::Reader(request, by, reply) => self.reader(request, by, reply),
            Request::Reload(reply) => self.reload(Some(reply)).await,
            Request::Health(question, reply) => {
                let _ = reply.send(self.health(&question));
            }
            Request::Explain(query, reply) => {
                self.program_what_waits();
                let _ = reply.send(self.explain(&query));
            }
            Request::Flows(query, turn, reply) => self.flows(&query, turn, reply),
            Request::Trace(query, reply) => {
                let _ = reply.send(self.begin_trace(&query));
            }
            Request::Role(request, reply) => self.steer_role(request, reply),
            Request::Events(query, reply) => {
                let _ = reply.send(Ok(self.events.reply(query, unix_ms())));
            }
            Request::History(query, reply) => {
                let _ = reply.send(Ok(self.history.since(query.since.unwrap_or(0))));
            }
        }
    }

    /// The server that is called so: by its name in the node table, by that with which it was added as a reader,
    /// or by its address.
    pub(super) fn server_named(&self, name: &str) -> Result<Endpoint, Refusal> {
        let named = self.balancer.address_named(name).map(Endpoint::host);
        named.or_else(|| Endpoint::parse(name)).ok_or_else(|| {
            Refusal::of(format!(
                "{name:?} is neither the name of a node or of an added reader nor an IP address; `pgha \
                 status` lists the servers"
            ))
        })
    }

    fn listed_nodes(&self) -> Vec<NodeStatus> {
        let nodes = self.config.nodes().iter();
        nodes.map(|node| NodeStatus { name: node.name.clone(), address: node.address }).collect()
    }

    pub(super) fn status(&mut self) -> Result<Status, XdpError> {
        let counters = self.plane.counters()?;
        let FlowCapacity { flows, flows_ipv6, pending_flows, pending_flows_ipv6 } =
            self.plane.flow_capacity()?;
        let views = self.balancer.view();
        self.changes.observe(&views, wall());
        let mut services = Vec::new();
        for view in views {
            let mut traffic = BTreeMap::new();
            for server in &view.servers {
                let sum = self.plane.traffic(server.id)?;
                let open = self.plane.open_flows(server.id)?;
                let pgha_common::maps::Traffic { packets, bytes, flows } = sum;
                traffic.insert(server.id, TrafficStatus { packets, bytes, flows, open });
            }
            let probes = self.probes_of(&view);
            let state = |server| StateStatus::of(server, wall());
            let states = view.servers.iter().map(|server| (server.id, state(server))).collect();
            let changed = self.changes.of(&view);
            services.push(ServiceStatus { states, view, traffic, probes, changed });
        }
        Ok(Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.config.cluster().clone(),
            director: DirectorStatus {
                host: host_name(),
                peers: self.config.director().peers().iter().map(PeerStatus::of).collect(),
                interfaces: self.interfaces.status(),
                attached: self.attach_by.is_none(),
                cut_off: self.cut_off().map(|why| why.to_string()),
                mode: self.attached.map(|attached| mode_name(attached.mode).to_owned()),
                active: self.attach_by.is_none() && self.role.role() == Role::Active,
                role: self.role.role().name().to_owned(),
                flows,
                flows_ipv6,
                pending_flows,
                pending_flows_ipv6,
                in_use: self.surveys.in_use(),
                pid: std::process::id(),
                taken_over: self.attached.is_some_and(|attached| attached.taken_over),
            },
            primary: self.config.primary().map(|_| self.primary_status()),
            services,
            readers: self.balancer.orders().readers,
            nodes: self.listed_nodes(),
            without_id: self.balancer.without_id().iter().map(Unserved::of).collect(),
            store: self.book.status(),
            api: self.api.status(SystemTime::now()),
            started: self.began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            received: counters.received,
            reasons: Reason::ALL
                .iter()
                .map(|reason| (reason.name().to_owned(), counters.reasons[*reason as usize]))
                .collect(),
        })
    }
}

/// Seconds since the Unix epoch.
pub(super) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
    }
}

/// Name of this host (hostname(7)); empty where it cannot be read.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}
