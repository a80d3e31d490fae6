//! `GET /v1/explain`: which real server a connection has or would get, and why. The data plane's own
//! decision, with the names and the reasons that the machine knows.

use std::net::SocketAddr;

use pgha_common::flow::RealRef;
use pgha_common::verdict::Reason;
use pgha_machine::NodeName;
use pgha_machine::balancer::{Plan, ServerView, ServiceView, Withheld};
use serde::{Deserialize, Serialize};

use super::Controller;
use super::named::{self, Endpoint};
use super::status::{Refusal, SCHEMA};
use crate::bpf::xdp::{Choice, Explanation, KnownFlow};

#[cfg(test)]
mod tests;

/// Which connection is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainQuery {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The VIP, with or without port, or the name of a service; every service of the client's family when
    /// missing.
    pub(crate) vip: Option<String>,
}

/// What becomes of a client's connection to each service that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExplainReply {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// One for each VIP and port.
    pub(crate) services: Vec<ServiceExplained>,
}

impl ExplainReply {
    /// Whether a real server is named for the connection that is there, or for a new one.
    pub(crate) fn names_a_server(&self) -> bool {
        let named = |service: &ServiceExplained| {
            service.next.server.is_some() || service.connect.server.is_some()
        };
        self.services.iter().any(named)
    }
}

/// What becomes of a client's connection to one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceExplained {
    /// Where the client connects.
    pub(crate) vip: SocketAddr,
    /// The service's name; `None` where the VIP has none on that port.
    pub(crate) service: Option<NodeName>,
    /// Its scheduler.
    pub(crate) scheduler: Option<String>,
    /// The connection that the data plane knows.
    pub(crate) flow: Option<FlowExplained>,
    /// What becomes of its next packet; of one that no SYN began, where none is known.
    pub(crate) next: Verdict,
    /// What becomes of a new connection.
    pub(crate) connect: Verdict,
    /// The servers of the service.
    pub(crate) servers: Vec<ServerExplained>,
}

/// A connection that the data plane knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowExplained {
    /// `pending` or `established`.
    pub(crate) state: String,
    /// A FIN or RST was seen, and nothing since that shows it to go on.
    pub(crate) closing: bool,
    /// Its real server.
    pub(crate) server: ServerName,
    /// Whether that is alive and still has the id that the connection began with.
    pub(crate) alive: bool,
    /// The last acknowledgement number of the client.
    pub(crate) acknowledgement: Option<u32>,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// `forward`, `answer`, `pass` or `drop`.
    pub(crate) action: String,
    /// Name of the reason.
    pub(crate) reason: String,
    /// What that means.
    pub(crate) meaning: String,
    /// The real server that gets it.
    pub(crate) server: Option<ServerName>,
}

/// A real server, as people and the data plane call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerName {
    /// Its name, where it has one.
    pub(crate) name: Option<NodeName>,
    /// Its address; `None` when nobody has that id any more.
    pub(crate) address: Option<std::net::IpAddr>,
    /// Its id in the data plane.
    pub(crate) id: u16,
}

impl ServerName {
    /// As a line of text has it.
    pub(crate) fn text(&self) -> String {
        match (&self.name, self.address) {
            (Some(name), Some(address)) => format!("{name} ({address})"),
            (None, Some(address)) => address.to_string(),
            (_, None) => format!("a server that is gone (id {})", self.id),
        }
    }

    /// In a column of a table.
    pub(crate) fn short(&self) -> String {
        match (&self.name, self.address) {
            (Some(name), _) => name.to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => format!("gone (id {})", self.id),
        }
    }
}

/// Why a server of the service does or does not get a new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerExplained {
    /// Which.
    #[serde(flatten)]
    pub(crate) server: ServerName,
    /// Whether a new connection of the client goes to it.
    pub(crate) picked: bool,
    /// Why it gets no new connections of anybody; empty when it does.
    pub(crate) withheld: Vec<Withheld>,
    /// One sentence.
    pub(crate) because: String,
}

impl Controller {
    /// Explains one client's connections.
    pub(super) fn explain(&mut self, query: &ExplainQuery) -> Result<ExplainReply, Refusal> {
        let client = SocketAddr::new(query.client.ip().to_canonical(), query.client.port());
        let vips = self.vips_asked_for(client, query.vip.as_deref())?;
        let (views, names) = (self.balancer.view(), Names::new(self));
        let reading = self.plane.reading().map_err(Refusal::of)?;
        let explained = |vip: SocketAddr| {
            let view = views.iter().find(|view| (view.vip, view.port) == (vip.ip(), vip.port()));
            Some(service(vip, view, &reading.explain(client, vip)?, &names))
        };
        let services = vips.into_iter().filter_map(explained).collect();
        Ok(ExplainReply { schema: SCHEMA, client, services })
    }

    /// Where the client may mean to connect.
    fn vips_asked_for(
        &self,
        client: SocketAddr,
        vip: Option<&str>,
    ) -> Result<Vec<SocketAddr>, Refusal> {
        let services = self.config.services().iter();
        let named =
            services.filter(|service| vip.is_none_or(|vip| named::is_service(service, vip)));
        let mut vips: Vec<_> =
            named.map(|service| SocketAddr::new(service.vip, service.port)).collect();
        // A port without a service is a question, too.
        let asked = vip.and_then(Endpoint::parse).and_then(Endpoint::socket);
        if vips.is_empty() {
            vips.extend(asked);
        }
        if let (true, Some(vip)) = (vips.is_empty(), vip) {
            let error =
                format!("{vip} is neither a service nor the VIP of one; `pgha status` lists them");
            return Err(Refusal { error });
        }
        vips.retain(|vip| vip.is_ipv4() == client.is_ipv4());
        if vips.is_empty() {
            let family = if client.is_ipv4() { "IPv4" } else { "IPv6" };
            let error = format!(
                "the client {client} is {family} and the VIP is not; name a client and a VIP of one family"
            );
            return Err(Refusal { error });
        }
        Ok(vips)
    }
}

/// Who has which id.
pub(super) struct Names {
    plan: Plan,
    views: Vec<ServerView>,
}

impl Names {
    pub(super) fn new(controller: &Controller) -> Self {
        let views = controller.balancer.view().into_iter().flat_map(|view| view.servers);
        Self { plan: controller.balancer.plan(), views: views.collect() }
    }

    /// The server, and whether it is alive; one that has the id of a former one is not that.
    pub(super) fn of(&self, real: RealRef) -> (ServerName, bool) {
        let mut reals = self.plan.services.iter().flat_map(|service| &service.reals);
        let Some(found) = reals.find(|plan| plan.real == real) else {
            return (ServerName { name: None, address: None, id: real.id }, false);
        };
        let view = self.views.iter().find(|view| view.id == real.id);
        let name = view.and_then(|view| view.name.clone());
        (ServerName { name, address: Some(found.address), id: real.id }, !found.dead)
    }
}

fn service(
    vip: SocketAddr,
    view: Option<&ServiceView>,
    explanation: &Explanation,
    names: &Names,
) -> ServiceExplained {
    let verdict = |choice: Choice| verdict(choice.reason, choice.real.map(|real| names.of(real).0));
    let picked = explanation.connect.real.map(|real| real.id);
    let servers = view.map_or(&[][..], |view| &view.servers);
    let scheduler = view.map_or("", |view| &view.scheduler);
    let server = |server| server_explained(server, picked, explanation.connect.reason, scheduler);
    ServiceExplained {
        vip,
        service: view.map(|view| view.name.clone()),
        scheduler: view.map(|view| view.scheduler.clone()),
        flow: explanation.flow.map(|known| flow(known, names)),
        next: verdict(explanation.next),
        connect: verdict(explanation.connect),
        servers: servers.iter().map(server).collect(),
    }
}

fn flow(known: KnownFlow, names: &Names) -> FlowExplained {
    let (server, alive) = names.of(known.flow.real());
    FlowExplained {
        state: known.state.name().to_owned(),
        closing: known.flow.is_closing(),
        server,
        alive,
        acknowledgement: known.flow.acknowledgement(),
    }
}

fn verdict(reason: Reason, server: Option<ServerName>) -> Verdict {
    Verdict {
        action: super::trace::action_name(reason.action()).to_owned(),
        reason: reason.name().to_owned(),
        meaning: reason.meaning().to_owned(),
        server,
    }
}

fn server_explained(
    view: &ServerView,
    picked: Option<u16>,
    reason: Reason,
    scheduler: &str,
) -> ServerExplained {
    let is_picked = picked == Some(view.id);
    let phrases: Vec<_> = view.withheld.iter().map(|withheld| withheld.phrase()).collect();
    let withheld = phrases.join(", ");
    let because = match (is_picked, view.withheld.is_empty()) {
        (true, true) => format!("picked: {}", picks(scheduler, reason)),
        (true, false) => {
            let why = picks(scheduler, reason);
            format!("picked: {why}; gets no other new connections: {withheld}")
        }
        (false, false) => format!("gets no new connections: {withheld}"),
        (false, true) if picked.is_some() => {
            format!("not picked: {}", passes_by(scheduler, reason))
        }
        (false, true) => format!("nobody is picked: {}", reason.name()),
    };
    ServerExplained {
        server: ServerName { name: view.name.clone(), address: Some(view.address), id: view.id },
        picked: is_picked,
        withheld: view.withheld.clone(),
        because,
    }
}

/// Why a scheduler picks the server that it picks.
fn picks(scheduler: &str, reason: Reason) -> &'static str {
    match (reason, scheduler) {
        (Reason::SynAgain, _) => "the SYN belongs to the connection that is known",
        (_, "rr") => "it is its turn, if no other connection comes before",
        (_, "source") => "the hash of the client's address falls to it",
        (_, "least") => {
            "of the two that the hash names, it has fewer open connections for its weight now"
        }
        _ => "the hash of both addresses and ports falls to it",
    }
}

/// Why it does not pick another.
fn passes_by(scheduler: &str, reason: Reason) -> &'static str {
    match (reason, scheduler) {
        (Reason::SynAgain, _) => "the SYN belongs to a connection with another",
        (_, "rr") => "it is another's turn",
        (_, "source") => "the hash of the client's address falls to another",
        (_, "least") => "the hash names others, or it has more open connections for its weight",
        _ => "the hash of both addresses and ports falls to another",
    }
}
