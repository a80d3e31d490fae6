//! `pgha explain`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use clap::Args;

use super::client::{self, Options};
use super::output::print;
use crate::controller::explain::{
    ExplainQuery, ExplainReply, FlowExplained, ServerName, ServiceExplained, Verdict,
};

#[cfg(test)]
mod tests;

/// The connection that is meant.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The client's address and port: `10.0.0.7:40000` or `[fd00::7]:40000`.
    #[arg(value_parser = end, value_name = "CLIENT:PORT")]
    client: SocketAddr,
    /// A VIP, with or without port, or a service's name; otherwise every service of the client's family.
    #[arg(long, value_name = "VIP[:PORT]")]
    vip: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn end(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an address and a port are needed, such as 10.0.0.7:40000 or [fd00::7]:40000".to_owned()
    })
}

/// Asks the controller, and tells whether a real server is named.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { client, vip, json } = arguments;
    let query = ExplainQuery { client, vip };
    let reply = client::explain(&options.controller()?, &query).await?;
    print(json, &reply, text)?;
    Ok(reply.names_a_server())
}

fn text(reply: &ExplainReply) -> String {
    let services: Vec<_> =
        reply.services.iter().map(|service| of_service(reply.client, service)).collect();
    services.join("\n")
}

fn of_service(client: SocketAddr, explained: &ServiceExplained) -> String {
    let mut text = match (&explained.service, &explained.scheduler) {
        (Some(name), Some(scheduler)) => {
            format!("{client} to service {name} {}, scheduler {scheduler}\n", explained.vip)
        }
        _ => format!("{client} to {}, which is no service\n", explained.vip),
    };
    let known = explained.flow.as_ref().map_or_else(|| "none is known".to_owned(), flow);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  connection: {known}");
    let next =
        if explained.flow.is_some() { "its next packet" } else { "a packet of one in progress" };
    let _ = writeln!(text, "  {next}: {}", verdict(&explained.next));
    let _ = writeln!(text, "  a new connection: {}", verdict(&explained.connect));
    for server in &explained.servers {
        let _ = writeln!(text, "  {} {}", server.server.text(), server.because);
    }
    text
}

fn flow(flow: &FlowExplained) -> String {
    let closing = if flow.closing { ", closing" } else { "" };
    let dead = if flow.alive { "" } else { ", which is dead or was replaced" };
    let last = flow.acknowledgement.map_or_else(
        || "nothing acknowledged yet".to_owned(),
        |number| format!("last acknowledgement {number}"),
    );
    format!("{}{closing}, with {}{dead}; {last}", flow.state, flow.server.text())
}

fn verdict(verdict: &Verdict) -> String {
    let to = verdict.server.as_ref().map(ServerName::text);
    let what = match (verdict.action.as_str(), to) {
        ("forward", Some(server)) => format!("goes to {server}"),
        ("forward", None) => "is forwarded".to_owned(),
        ("answer", _) => "is answered here".to_owned(),
        ("pass", Some(server)) => format!("is left to this node, which is {server}"),
        ("pass", None) => "is left to this node".to_owned(),
        _ => "is dropped".to_owned(),
    };
    format!("{what} ({}: {})", verdict.reason, verdict.meaning)
}
