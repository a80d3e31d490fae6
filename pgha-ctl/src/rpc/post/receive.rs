//! Taking what peers send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Router};
use http_body_util::BodyExt as _;
use pgha_machine::NodeName;
use pgha_machine::failover::message::Message;
use tokio::sync::Notify;

use super::queue::Queue;
use super::{LONGEST_LINE, PATH};
use crate::rpc::identity::Role;
use crate::rpc::server::Caller;

/// A connection that says nothing for so long is one of a process that is gone: reports come several times a
/// second.
const SILENT: Duration = Duration::from_secs(10);

/// What came, of each peer.
#[derive(Debug)]
pub(super) struct Inbox {
    queues: std::sync::Mutex<BTreeMap<NodeName, Queue>>,
    filled: Notify,
}

impl Inbox {
    pub(super) fn of(peers: impl Iterator<Item = NodeName>) -> Self {
        let queues = peers.map(|peer| (peer, Queue::default())).collect();
        Self { queues: std::sync::Mutex::new(queues), filled: Notify::new() }
    }

    pub(super) async fn next(&self) -> (NodeName, Message) {
        loop {
            if let Some(next) = self.pop() {
                return next;
            }
            self.filled.notified().await;
        }
    }

    fn pop(&self) -> Option<(NodeName, Message)> {
        let mut queues = self.queues();
        queues.iter_mut().find_map(|(from, queue)| Some((from.clone(), queue.pop()?)))
    }

    fn put(&self, from: &NodeName, message: Message) {
        if let Some(queue) = self.queues().get_mut(from) {
            queue.push(message);
        }
        self.filled.notify_one();
    }

    fn knows(&self, name: &NodeName) -> bool {
        self.queues().contains_key(name)
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeName, Queue>> {
        self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(super) fn router(inbox: Arc<Inbox>) -> Router {
    Router::new()
        .route(PATH, post(receive))
        // It does not end.
        .layer(DefaultBodyLimit::disable())
        .with_state(inbox)
}

async fn receive(
    State(inbox): State<Arc<Inbox>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Response {
    let from = match sender(&caller, SystemTime::now()) {
        Some(from) if inbox.knows(&from) => from,
        Some(_) | None => {
            let name = caller.name();
            let error = format!(
                "{name} is no node or controller of this cluster by the configuration here; list it as a \
                 [[node]] with an agent or as a [[controller]], and give it a certificate of that name"
            );
            return (StatusCode::FORBIDDEN, error).into_response();
        }
    };
    match read(&inbox, &from, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::debug!(peer = %from, "messages of {from} ended: {error}");
            (StatusCode::BAD_REQUEST, error).into_response()
        }
    }
}

/// Whose messages these are.
fn sender(caller: &Caller, now: SystemTime) -> Option<NodeName> {
    match caller {
        Caller::Holder(holder) if holder.role == Some(Role::Node) && holder.until >= now => {
            holder.name.parse().ok()
        }
        Caller::Holder(_) | Caller::Nobody | Caller::OtherUser | Caller::Owner(_) => None,
    }
}

/// Takes line after line until the sender ends. One that says nothing to this version is left out.
async fn read(inbox: &Inbox, from: &NodeName, mut body: Body) -> Result<(), String> {
    let mut rest = Vec::new();
    let mut foreign = false;
    loop {
        let frame = tokio::time::timeout(SILENT, body.frame());
        let frame = match frame.await {
            Err(_) => return Err(format!("nothing came for {} s", SILENT.as_secs())),
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => frame.map_err(|error| error.to_string())?,
        };
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(message) => inbox.put(from, message),
                Err(error) if !std::mem::replace(&mut foreign, true) => {
                    tracing::warn!(
                        peer = %from,
                        "a message of {from} cannot be read ({error}), so it is left out; is its version newer?"
                    );
                }
                Err(_) => {}
            }
        }
        if rest.len() > LONGEST_LINE {
            return Err(format!("a line is longer than {LONGEST_LINE} bytes"));
        }
    }
}
