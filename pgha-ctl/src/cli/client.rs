//! Talking to the controller of this node.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::controller::explain::{ExplainQuery, ExplainReply};
use crate::controller::flows::{FlowsQuery, FlowsReply};
use crate::controller::status::{
    OrderReply, OrderRequest, Refusal, RoleReply, RoleRequest, Status,
};
use crate::controller::trace::TraceQuery;

/// How long one conversation may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the largest flow tables may take to be read on a busy node.
const PATIENCE_FOR_FLOWS: Duration = Duration::from_secs(60);

/// The controller was not asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody listens.
    #[error("no controller runs on this node ({path}: {source}); start one: pgha controller")]
    NoController { path: PathBuf, source: io::Error },
    /// The socket is somebody else's.
    #[error("{path} is not for this user; be root, or the controller's user")]
    Permission { path: PathBuf },
    /// Somebody listens and says nothing.
    #[error(
        "the controller behind {path} gave no answer within {} ms; see its log, and whether it is \
         stopped",
        .patience.as_millis()
    )]
    Timeout { path: PathBuf, patience: Duration },
    /// The conversation broke.
    #[error("the controller ended in the middle of its answer: {0}")]
    Broken(#[from] hyper::Error),
    /// A controller of another version.
    #[error("the controller's answer cannot be read ({0}); is it of another version?")]
    Unreadable(#[from] serde_json::Error),
    /// The request cannot be written.
    #[error(transparent)]
    Http(#[from] hyper::http::Error),
    /// The question cannot be written.
    #[error("the question cannot be put into a request: {0}")]
    Query(#[from] serde_urlencoded::ser::Error),
    /// It says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// `GET /v1/status`.
pub(super) async fn status(control: &Path) -> Result<Status, ClientError> {
    within(PATIENCE, control, ask(control, Method::GET, "/v1/status", None::<&()>)).await
}

/// `POST /v1/order`.
pub(super) async fn order(control: &Path, order: &OrderRequest) -> Result<OrderReply, ClientError> {
    within(PATIENCE, control, ask(control, Method::POST, "/v1/order", Some(order))).await
}

/// `GET /v1/explain`.
pub(super) async fn explain(
    control: &Path,
    query: &ExplainQuery,
) -> Result<ExplainReply, ClientError> {
    let path = with_query("/v1/explain", query)?;
    within(PATIENCE, control, ask(control, Method::GET, &path, None::<&()>)).await
}

/// `GET /v1/flows`.
pub(super) async fn flows(control: &Path, query: &FlowsQuery) -> Result<FlowsReply, ClientError> {
    let path = with_query("/v1/flows", query)?;
    within(PATIENCE_FOR_FLOWS, control, ask(control, Method::GET, &path, None::<&()>)).await
}

/// `GET /v1/trace`: the file, as it comes.
pub(super) async fn trace(control: &Path, query: &TraceQuery) -> Result<Incoming, ClientError> {
    let path = with_query("/v1/trace", query)?;
    let begun = within(PATIENCE, control, send(control, Method::GET, &path, None::<&()>));
    let response = begun.await?;
    if response.status() == StatusCode::OK {
        return Ok(response.into_body());
    }
    let body = response.into_body().collect().await?.to_bytes();
    Err(serde_json::from_slice::<Refusal>(&body)?.into())
}

/// `GET` of any path: whatever the answer is.
pub(super) async fn get(control: &Path, path: &str) -> Result<Response<Bytes>, ClientError> {
    within(PATIENCE, control, async {
        let (parts, body) = send(control, Method::GET, path, None::<&()>).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    })
    .await
}

fn with_query(path: &str, query: &impl Serialize) -> Result<String, ClientError> {
    Ok(format!("{path}?{}", serde_urlencoded::to_string(query)?))
}

/// `POST /v1/director`.
pub(super) async fn role(control: &Path, request: RoleRequest) -> Result<RoleReply, ClientError> {
    within(PATIENCE, control, ask(control, Method::POST, "/v1/director", Some(&request))).await
}

async fn within<T>(
    patience: Duration,
    control: &Path,
    conversation: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let ended = tokio::time::timeout(patience, conversation).await;
    ended.unwrap_or_else(|_| Err(ClientError::Timeout { path: control.to_owned(), patience }))
}

async fn ask<T: DeserializeOwned>(
    control: &Path,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<T, ClientError> {
    let response = send(control, method, path, body).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK {
        Ok(serde_json::from_slice(&body)?)
    } else {
        Err(serde_json::from_slice::<Refusal>(&body)?.into())
    }
}

/// Sends a request, and returns as soon as the answer begins.
async fn send(
    control: &Path,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Response<Incoming>, ClientError> {
    let stream = UnixStream::connect(control).await.map_err(|source| {
        let path = control.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Permission { path }
        } else {
            ClientError::NoController { path, source }
        }
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender; what it ended with is seen by the request.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    Ok(sender.send_request(request).await?)
}
