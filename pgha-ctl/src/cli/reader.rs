//! `pgha reader`: servers that are readers by an operator's word alone.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use clap::{Args, Subcommand};
use pgha_machine::balancer::ReaderOrder;
use pgha_machine::{NodeName, Weight};
use serde::{Deserialize, Serialize};

use super::argument;
use super::client::{self, ClientError, Options};
use super::output::print;
use super::table;
use super::words::{self, or_none};
use crate::controller::state::ServerState;
use crate::controller::status::{ReaderReply, ReaderRequest, Refusal, SCHEMA, Status};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a server as a reader to every service; one that was added already takes this name and weight.
    ///
    /// It gets its first client when it has passed its checks. It needs no line in the configuration file.
    Add(Add),
    /// Take an added reader back. It stays where the configuration or the primary names it.
    Remove {
        /// Its address, or the name it was added with.
        reader: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the added readers: by whom, when, and how they are.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// Its address.
    #[arg(value_parser = argument::address)]
    address: IpAddr,
    /// Its name in output.
    #[arg(long)]
    name: Option<NodeName>,
    /// Its weight in every service, 0 to 1000; otherwise each service's default.
    #[arg(long, value_parser = argument::weight)]
    weight: Option<Weight>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The added readers, and how they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Readers {
    /// [`SCHEMA`].
    schema: u32,
    readers: Vec<Reader>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reader {
    #[serde(flatten)]
    order: ReaderOrder,
    /// Its state in each service that has it: `up`, `checking` and so on, as `pgha status` says it.
    states: Vec<InService>,
}

/// How it is in one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InService {
    service: NodeName,
    state: String,
}

/// Changes or lists the added readers.
pub(super) async fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let controller = options.controller()?;
    let (request, json) = match verb {
        Verb::Add(Add { address, name, weight, json }) => {
            (ReaderRequest::Add { address, name, weight }, json)
        }
        Verb::Remove { reader, json } => {
            let status = client::status(&controller).await?;
            let address = address(&status, &reader).map_err(ClientError::Refused)?;
            (ReaderRequest::Remove { address }, json)
        }
        Verb::List { json } => {
            let readers = readers(&client::status(&controller).await?);
            return print(json, &readers, |readers| listed(readers, words::now()));
        }
    };
    let reply = client::reader(&controller, &request).await?;
    print(json, &reply, |reply| changed(&request, reply))
}

/// Where an added reader is.
fn address(status: &Status, reader: &str) -> Result<IpAddr, Refusal> {
    let is_meant = |order: &&ReaderOrder| {
        reader.parse() == Ok(order.address)
            || order.name.as_ref().is_some_and(|name| name.as_str() == reader)
    };
    let found = status.readers.iter().find(is_meant).map(|order| order.address);
    found.ok_or_else(|| {
        Refusal::of(format!("{reader} is no added reader; `pgha reader list` lists them"))
    })
}

fn readers(status: &Status) -> Readers {
    let reader = |order: &ReaderOrder| {
        let in_service = |view: &pgha_machine::balancer::ServiceView| {
            let server = view.servers.iter().find(|server| server.address == order.address)?;
            let state = ServerState::of(server).word().to_owned();
            Some(InService { service: view.name.clone(), state })
        };
        let states = status.services.iter().filter_map(|service| in_service(&service.view));
        Reader { order: order.clone(), states: states.collect() }
    };
    Readers { schema: SCHEMA, readers: status.readers.iter().map(reader).collect() }
}

fn listed(readers: &Readers, now: u64) -> String {
    if readers.readers.is_empty() {
        return "no reader was added; pgha reader add ADDRESS".to_owned();
    }
    let mut rows = table::plain(["ADDRESS", "NAME", "WEIGHT", "ADDED", "STATE"]);
    for Reader { order, states } in &readers.readers {
        let states: Vec<_> =
            states.iter().map(|of| format!("{} {}", of.service, of.state)).collect();
        let ReaderOrder { address, name, weight, by, at } = order;
        rows.add_row([
            address.to_string(),
            or_none(name.as_ref()),
            weight.map_or_else(|| "default".to_owned(), |weight| weight.to_string()),
            format!("by {by} {} ago", words::age(*at, now)),
            if states.is_empty() { "member of no service".to_owned() } else { states.join(", ") },
        ]);
    }
    table::lines(&rows)
}

fn changed(request: &ReaderRequest, reply: &ReaderReply) -> String {
    let count = match reply.readers.len() {
        1 => "1 reader is added".to_owned(),
        count => format!("{count} readers are added"),
    };
    let changed = match request {
        ReaderRequest::Add { address, name, .. } => format!(
            "{} is a reader of every service once it passes its checks (pgha why-not {address}); {count}",
            words::named(name.as_ref(), *address)
        ),
        ReaderRequest::Remove { address } => {
            format!("{address} is no reader by an operator's word any more; {count}")
        }
    };
    format!("{changed}\n{}", words::apart(&reply.apart)).trim_end().to_owned()
}
