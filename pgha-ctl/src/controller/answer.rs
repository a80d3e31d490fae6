//! What operators ask of the controller.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use pgha_common::verdict::Reason;
use pgha_machine::balancer::{Event, OrderChange};
use pgha_machine::director::Role;

use super::Controller;
use super::api::Request;
use super::events::{Happening, Kind, unix_ms};
use super::named::{self, Endpoint};
use super::state::StateStatus;
use super::status::{
    DirectorStatus, OrderKind, OrderReply, OrderRequest, PeerStatus, Refusal, SCHEMA,
    ServiceStatus, Status, TrafficStatus,
};
use crate::bpf::xdp::{FlowCapacity, Mode, XdpError};

impl Controller {
    /// Answers one request.
    pub(super) fn answer(&mut self, request: Request) {
        // Whoever asked may be gone by now.
        match request {
            Request::Status(reply) => {
                let _ = reply.send(self.status().map_err(Refusal::of));
            }
            Request::Order(order, reply) => {
                let _ = reply.send(self.order(&order));
            }
            Request::Explain(query, reply) => {
                let _ = reply.send(self.explain(&query));
            }
            Request::Flows(query, reply) => self.flows(&query, reply),
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

    fn order(&mut self, request: &OrderRequest) -> Result<OrderReply, Refusal> {
        let server = self.server_named(&request.server)?;
        let address = server.address;
        let services: Vec<_> = self
            .config
            .services()
            .iter()
            .filter(|service| server.allows(service.port))
            .filter(|service| {
                request.service.as_ref().is_none_or(|name| named::is_service(service, name))
            })
            .map(|service| (service.vip, service.port))
            .filter(|service| self.balancer.has_member(*service, address))
            .collect();
        if services.is_empty() {
            let of =
                request.service.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
            return Err(Refusal::of(format!(
                "{} is no real server{of}; `pgha status` lists them",
                request.server
            )));
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut orders = self.balancer.orders();
        for (vip, port) in services.iter().copied() {
            let change = match request.order {
                OrderKind::Weight { weight } => OrderChange::Weight { vip, port, address, weight },
                OrderKind::Drain => OrderChange::Drain { vip, port, address, reset_at: None },
                OrderKind::Undrain => OrderChange::Undrain { vip, port, address },
            };
            orders.change(&change, "an operator", wall.as_secs());
        }
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        self.balancer.handle(self.now(), Event::Ordered { orders, wall });
        // The reply says what is, so the maps come first.
        self.program();
        let what = match request.order {
            OrderKind::Weight { weight: Some(weight) } => format!("weight {weight}"),
            OrderKind::Weight { weight: None } => "its configured weight".to_owned(),
            OrderKind::Drain => "drain".to_owned(),
            OrderKind::Undrain => "undrain".to_owned(),
        };
        let text = format!("{address}: {what}, ordered by an operator");
        self.tell(Happening::info(Kind::Ordered, text).of(address));
        let mut views = self.balancer.view();
        views.retain(|view| services.contains(&(view.vip, view.port)));
        Ok(OrderReply { schema: SCHEMA, services: views })
    }

    pub(super) fn server_named(&self, name: &str) -> Result<Endpoint, Refusal> {
        named::server(self.config.nodes(), name).ok_or_else(|| {
            Refusal::of(format!("{name:?} is neither a name in the node table nor an IP address"))
        })
    }

    pub(super) fn status(&self) -> Result<Status, XdpError> {
        let counters = self.plane.counters()?;
        let FlowCapacity { flows, flows_ipv6, pending_flows, pending_flows_ipv6 } =
            self.plane.flow_capacity()?;
        let mut services = Vec::new();
        for view in self.balancer.view() {
            let mut traffic = BTreeMap::new();
            for server in &view.servers {
                let sum = self.plane.traffic(server.id)?;
                let open = self.plane.open_flows(server.id)?;
                let pgha_common::maps::Traffic { packets, bytes, flows } = sum;
                traffic.insert(server.id, TrafficStatus { packets, bytes, flows, open });
            }
            let probes = self.probes_of(&view);
            let states = view.servers.iter().map(|server| (server.id, StateStatus::of(server)));
            services.push(ServiceStatus { states: states.collect(), view, traffic, probes });
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
            started: self.began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            received: counters.received,
            reasons: Reason::ALL
                .iter()
                .map(|reason| (reason.name().to_owned(), counters.reasons[*reason as usize]))
                .collect(),
        })
    }
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
