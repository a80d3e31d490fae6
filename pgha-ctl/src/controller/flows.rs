//! `GET /v1/flows`: the connections that the data plane remembers. A million of them is no rarity, so
//! they are filtered while they are read, on a thread of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use clap::ValueEnum;
use hyper::body::Bytes;
use pgha_common::flow::RealRef;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Controller;
use super::explain::{Names, ServerName};
use super::named::{Clients, Endpoint};
use super::status::{Refusal, SCHEMA};
use super::turns::Turn;
use crate::bpf::xdp::{AnyFlow, FlowReader, FlowState};

#[cfg(test)]
mod tests;

/// How many flows are shown where nobody says how many.
pub(crate) const DEFAULT_LIMIT: usize = 100;
/// How many may be asked for: the reply stands in memory whole.
const MAX_LIMIT: usize = 10_000;

/// Which flows are meant: those for which everything that is said is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlowsQuery {
    /// Of this client: an address, with or without port, or a network.
    pub(crate) client: Option<String>,
    /// Of this real server: its name, or its address, with or without port.
    pub(crate) server: Option<String>,
    /// To this VIP, with or without port.
    pub(crate) vip: Option<String>,
    /// In this state.
    pub(crate) state: Option<Standing>,
    /// At most so many are listed, up to 10,000; [`DEFAULT_LIMIT`] when missing.
    pub(crate) limit: Option<usize>,
}

/// The state of a flow. Each flow has just one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Its server has not been seen to answer.
    Pending,
    /// Its server has been seen to answer.
    Established,
    /// A FIN or RST was seen, and nothing since that shows it to go on.
    Closing,
    /// Its server is dead or was replaced: its next packet is answered by RST.
    Orphaned,
}

impl Standing {
    /// Its name in output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Orphaned => "orphaned",
        }
    }
}

/// The flows that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowsReply {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// How many there are.
    pub(crate) total: u64,
    /// How many of them are listed.
    pub(crate) shown: usize,
    /// How many there are in each state.
    pub(crate) states: BTreeMap<Standing, u64>,
    /// Those listed, in no order.
    pub(crate) flows: Vec<FlowStatus>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowStatus {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The VIP's end.
    pub(crate) vip: SocketAddr,
    /// Its real server.
    pub(crate) server: ServerName,
    /// Its state.
    pub(crate) state: Standing,
    /// The last acknowledgement number of the client.
    pub(crate) acknowledgement: Option<u32>,
}

/// What a flow must be to be meant.
#[derive(Debug, Default)]
struct Filter {
    clients: Option<Clients>,
    /// Ids of the server that is meant, one for each service.
    servers: Option<BTreeSet<u16>>,
    vip: Option<Endpoint>,
    state: Option<Standing>,
}

impl Filter {
    fn means(&self, found: &AnyFlow, state: Standing) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
            && self.servers.as_ref().is_none_or(|ids| ids.contains(&found.flow.real().id))
            && self.clients.is_none_or(|clients| clients.include(found.client()))
            && self.vip.is_none_or(|vip| vip.is(found.vip()))
    }
}

impl Controller {
    /// Reads the flow tables on another thread, which replies with a [`FlowsReply`] in JSON: the loop has
    /// no time to write that.
    pub(super) fn flows(
        &self,
        query: &FlowsQuery,
        turn: Turn,
        reply: oneshot::Sender<Result<Bytes, Refusal>>,
    ) {
        let reading = limit(query).and_then(|limit| {
            let filter = self.filter(query)?;
            Ok((limit, filter, self.plane.flow_reader().map_err(Refusal::of)?))
        });
        // Whoever asked may be gone by now.
        match reading {
            Ok((limit, filter, reader)) => {
                let names = Names::new(self);
                tokio::task::spawn_blocking(move || {
                    let read = read(&reader, &filter, &names, limit);
                    let json = read.and_then(|r| serde_json::to_vec(&r).map_err(Refusal::of));
                    let _ = reply.send(json.map(Bytes::from));
                    drop(turn);
                });
            }
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
            }
        }
    }

    fn filter(&self, query: &FlowsQuery) -> Result<Filter, Refusal> {
        Ok(Filter {
            clients: query.client.as_deref().map(Clients::parse).transpose()?,
            servers: query.server.as_deref().map(|name| self.ids_of(name)).transpose()?,
            vip: query.vip.as_deref().map(vip).transpose()?,
            state: query.state,
        })
    }

    fn ids_of(&self, name: &str) -> Result<BTreeSet<u16>, Refusal> {
        let server = self.server_named(name)?;
        let views = self.balancer.view().into_iter().filter(|view| server.allows(view.port));
        let ids: BTreeSet<_> = views
            .flat_map(|view| view.servers)
            .filter(|view| view.address == server.address)
            .map(|view| view.id)
            .collect();
        if ids.is_empty() {
            let error = format!("{name} is no real server; `pgha status` lists them");
            return Err(Refusal { error });
        }
        Ok(ids)
    }
}

fn limit(query: &FlowsQuery) -> Result<usize, Refusal> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT {
        let error = format!(
            "limit {limit} is more than the {MAX_LIMIT} flows that are listed at a time; ask for \
             those of one client, server, VIP or state"
        );
        return Err(Refusal { error });
    }
    Ok(limit)
}

fn vip(text: &str) -> Result<Endpoint, Refusal> {
    Endpoint::parse(text).ok_or_else(|| Refusal {
        error: format!(
            "VIP {text:?} is no address, with or without port; write it as 10.0.0.100 or \
             [fd00::100]:5432"
        ),
    })
}

fn read(
    reader: &FlowReader,
    filter: &Filter,
    names: &Names,
    limit: usize,
) -> Result<FlowsReply, Refusal> {
    let mut reply = FlowsReply {
        schema: SCHEMA,
        total: 0,
        shown: 0,
        states: BTreeMap::new(),
        flows: Vec::new(),
    };
    // Asked for each flow, and there are few servers.
    let mut servers: HashMap<(u16, u16), (ServerName, bool)> = HashMap::new();
    let walked = reader.walk(|found| {
        let RealRef { id, generation } = found.flow.real();
        let (server, alive) =
            servers.entry((id, generation)).or_insert_with(|| names.of(RealRef { id, generation }));
        let state = standing(found.state, found.flow.is_closing(), *alive);
        if !filter.means(&found, state) {
            return;
        }
        reply.total += 1;
        *reply.states.entry(state).or_default() += 1;
        if reply.flows.len() < limit {
            reply.flows.push(FlowStatus {
                client: found.client(),
                vip: found.vip(),
                server: server.clone(),
                state,
                acknowledgement: found.flow.acknowledgement(),
            });
        }
    });
    walked.map_err(Refusal::of)?;
    reply.shown = reply.flows.len();
    Ok(reply)
}

const fn standing(table: FlowState, closing: bool, alive: bool) -> Standing {
    match (alive, closing, table) {
        (false, _, _) => Standing::Orphaned,
        (true, true, _) => Standing::Closing,
        (true, false, FlowState::Pending) => Standing::Pending,
        (true, false, FlowState::Established) => Standing::Established,
    }
}
