//! Messages between the agents and controllers of a cluster, each over a connection that stays open.
//!
//! Who has something to say connects, and sends one message after the other as the body of a request that
//! does not end, each a line of JSON. So there is one connection for each direction. Who a message is from
//! is what the certificate of the connection says, and nothing in the message: nobody speaks for another.
//!
//! A message is about now. What cannot be sent at once waits in a small [`queue::Queue`], in which a newer report
//! takes the place of an older one; what comes in faster than it is taken waits in the same way. So neither
//! a slow peer nor a silent one holds anything up, and who comes back hears how it is, not how it was.

mod queue;
mod receive;
mod send;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use pgha_machine::NodeName;
use pgha_machine::failover::message::Message;
use tokio::task::JoinSet;

use self::queue::Mailbox;
use self::receive::Inbox;
use super::client::Address;

/// Where messages are taken.
pub const PATH: &str = "/v1/messages";
/// The longest line, in bytes. The longest message names every member, and the timelines of a log.
const LONGEST_LINE: usize = 64 * 1024;

/// The post of a process: what it sends and what it gets. Nothing is sent any more once it is dropped.
#[derive(Debug)]
pub struct Post {
    out: BTreeMap<NodeName, Arc<Mailbox>>,
    inbox: Arc<Inbox>,
    _senders: JoinSet<()>,
}

impl Post {
    /// Exchanges messages with `peers` and nobody else, by the credentials in the directory `tls`, which are
    /// read for each connection. Nothing is connected before there is something to send.
    #[must_use]
    pub fn new(peers: &BTreeMap<NodeName, Address>, tls: &Path) -> Self {
        let mut senders = JoinSet::new();
        let mut out = BTreeMap::new();
        for (name, address) in peers {
            let mail = Arc::<Mailbox>::default();
            senders.spawn(send::deliver(
                name.clone(),
                address.clone(),
                tls.to_owned(),
                Arc::clone(&mail),
            ));
            out.insert(name.clone(), mail);
        }
        let inbox = Arc::new(Inbox::of(peers.keys().cloned()));
        Self { out, inbox, _senders: senders }
    }

    /// Sends a message, if that is possible soon. Whoever is no peer gets nothing.
    pub fn send(&self, to: &NodeName, message: Message) {
        match self.out.get(to) {
            Some(mail) => mail.put(message),
            None => tracing::debug!("{to} is in no [[node]] or [[controller]] and gets no message"),
        }
    }

    /// The next message that came, and from whom. Cancel-safe.
    pub async fn next(&self) -> (NodeName, Message) {
        self.inbox.next().await
    }

    /// The route by which messages come in. Who may come this far is for others to say; who says whom he is
    /// by a certificate of a node that is a peer is heard.
    pub fn router(&self) -> Router {
        receive::router(Arc::clone(&self.inbox))
    }
}
