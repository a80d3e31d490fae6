//! `pgha flows`.

use clap::Args;

use super::client::{self, Options};
use super::output::print;
use super::table;
use crate::controller::flows::{DEFAULT_LIMIT, FlowsQuery, FlowsReply, Standing};

/// The flows that are meant.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only of this client: `10.0.0.7`, `10.0.0.7:40000`, `[fd00::7]:40000` or a network.
    #[arg(long, value_name = "ADDRESS[:PORT]|NETWORK")]
    client: Option<String>,
    /// Only of this real server: its name in the node table, or its address, with or without port.
    #[arg(long)]
    server: Option<String>,
    /// Only to this VIP.
    #[arg(long, value_name = "VIP[:PORT]")]
    vip: Option<String>,
    /// Only in this state.
    #[arg(long, value_enum)]
    state: Option<Standing>,
    /// List at most so many.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
    limit: usize,
    /// List none, only say how many there are.
    #[arg(long, conflicts_with = "limit")]
    count: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Asks the controller.
pub(super) async fn run(options: &Options, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { client, server, vip, state, limit, count, json } = arguments;
    let limit = Some(if count { 0 } else { limit });
    let query = FlowsQuery { client, server, vip, state, limit };
    let reply = client::flows(&options.controller()?, &query).await?;
    print(json, &reply, text)
}

fn text(reply: &FlowsReply) -> String {
    let mut text = String::new();
    if !reply.flows.is_empty() {
        let mut rows = table::plain(["CLIENT", "VIP", "SERVER", "STATE"]);
        for flow in &reply.flows {
            rows.add_row([
                flow.client.to_string(),
                flow.vip.to_string(),
                flow.server.short(),
                flow.state.name().to_owned(),
            ]);
        }
        text = table::lines(&rows) + "\n\n";
    }
    let states: Vec<_> =
        reply.states.iter().map(|(state, count)| format!("{} {count}", state.name())).collect();
    text += &format!("flows {}, shown {}", reply.total, reply.shown);
    if states.is_empty() { text } else { format!("{text}: {}", states.join(", ")) }
}
