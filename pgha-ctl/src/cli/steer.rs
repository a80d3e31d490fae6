//! `pgha weight` and `undrain`, and what they share with `pgha drain`.

use super::client::{self, Options};
use super::output::print;
use super::{Server, table, words};
use crate::controller::status::{OrderKind, OrderReply, OrderRequest};

/// Orders, and shows the services as they are then.
pub(super) async fn order(
    options: &Options,
    server: Server,
    order: OrderKind,
) -> anyhow::Result<()> {
    let Server { server, service, json } = server;
    let request = OrderRequest { server, service, order };
    let reply = client::order(&options.controller()?, &request).await?;
    print(json, &reply, services)
}

/// The services that were changed.
pub(super) fn services(reply: &OrderReply) -> String {
    let now = words::now();
    let services = reply.services.iter().map(|view| table::service(view, None, now));
    services.chain(Some(words::apart(&reply.apart))).collect::<Vec<_>>().join("\n")
}
