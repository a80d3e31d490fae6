//! `pgha weight`, `drain` and `undrain`.

use std::path::Path;

use super::{Server, client, table};
use crate::config::Config;
use crate::controller::status::{OrderKind, OrderReply, OrderRequest};

/// Orders, and shows the services as they are then.
pub(super) async fn order(config: &Path, server: Server, order: OrderKind) -> anyhow::Result<()> {
    let Server { server, service, json } = server;
    let request = OrderRequest { server, service, order };
    let reply = client::order(&Config::control_at(config)?, &request).await?;
    table::print(json, &reply, |reply: &OrderReply| {
        reply.services.iter().map(|view| table::service(view, None)).collect::<Vec<_>>().join("\n")
    })
}
