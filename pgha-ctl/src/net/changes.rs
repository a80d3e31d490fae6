//! That something has changed about this node's interfaces or their addresses.

use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

use super::error::NetError;

type Messages = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// Tells that there was a change, not which: whoever wants to know looks.
pub struct Changes {
    messages: Messages,
    /// The connection ends with it.
    _handle: Handle,
    task: JoinHandle<()>,
}

impl Changes {
    /// Subscribes, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The socket cannot be opened or subscribed.
    pub fn new() -> Result<Self, NetError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| NetError::Socket { what: "subscribe to addresses", source })?;
        let messages = Box::pin(messages.map(|(message, _)| message));
        Ok(Self { messages, _handle: handle, task: tokio::spawn(connection) })
    }

    /// Waits for the next change; several that came together are one. Cancel-safe. The kernel's word that it
    /// left some out is a change, too.
    ///
    /// # Errors
    /// The kernel closed the socket: subscribe again.
    pub async fn next(&mut self) -> Result<(), NetError> {
        let message = self.messages.next().await;
        message.ok_or(NetError::NetlinkClosed { what: "watch addresses" })?;
        while let Some(Some(_)) = self.messages.next().now_or_never() {}
        Ok(())
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}
