//! What an agent serves over TCP: the messages of the others, and how it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clients::Door;
use super::error::AgentError;
use super::status::{self, AgentStatus};
use crate::config::Api;
use crate::rpc::post::Post;
use crate::rpc::server::{Caller, Keys, listen, serve_tcp};

/// How often it is seen whether the certificates' files have changed.
const LOOK: Duration = Duration::from_secs(10);

/// Serves until the set is dropped.
///
/// # Errors
/// A port cannot be had.
pub(super) async fn serve(
    api: &Api,
    keys: &Arc<Keys>,
    (post, door): (&Post, Door),
    status: watch::Receiver<Arc<AgentStatus>>,
) -> Result<JoinSet<()>, AgentError> {
    let told = Router::new().route(status::PATH, get(tell)).with_state(status);
    let router = post.router().merge(told).merge(door.router());
    let mut tasks = JoinSet::new();
    for address in api.listen() {
        let listener = listen(*address).await?;
        tasks.spawn(serve_tcp(listener, Arc::clone(keys), router.clone()));
    }
    tasks.spawn(refresh(Arc::clone(keys)));
    Ok(tasks)
}

async fn tell(
    State(status): State<watch::Receiver<Arc<AgentStatus>>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    if !caller.reads(SystemTime::now()) {
        let error = "show a certificate of this cluster: pgha tls issue makes one";
        return (StatusCode::FORBIDDEN, error).into_response();
    }
    let status = Arc::clone(&status.borrow());
    Json(&*status).into_response()
}

async fn refresh(keys: Arc<Keys>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        match keys.refresh() {
            Ok(true) => {
                tracing::info!("took up new certificates in {}", keys.directory().display());
            }
            Ok(false) => {}
            Err(error) => tracing::warn!("the certificates read before stay in force: {error}"),
        }
    }
}
