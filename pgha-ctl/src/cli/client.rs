//! Talking to a controller: that of this node through its Unix socket, or another's over TCP.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::top::Events;
use crate::agent::status::AgentStatus;
use crate::config::{Config, ConfigErrors};
use crate::controller::explain::{ExplainQuery, ExplainReply};
use crate::controller::failover::{
    self, ClearReply, ClearRequest, FailoverReply, FailoverRequest, FailoverStatus, History,
};
use crate::controller::flows::{FlowsQuery, FlowsReply};
use crate::controller::status::{
    OrderReply, OrderRequest, ReaderReply, ReaderRequest, Refusal, ReloadReply, RoleReply,
    RoleRequest, Status,
};
use crate::controller::trace::TraceQuery;
use crate::rpc::client::{self as rpc, Address, ConnectError};
use crate::rpc::credentials::{Credentials, CredentialsError, DIRECTORY};

/// How long one conversation may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an order may take: a store that gave no answer is given time to give one.
const PATIENCE_FOR_ORDERS: Duration = Duration::from_secs(10);
/// How long an order for another primary may take to be written, or declined: a lease, and the longest is 60 s.
const PATIENCE_FOR_FAILOVER: Duration = Duration::from_secs(75);
/// How long the largest flow tables may take to be read on a busy node.
const PATIENCE_FOR_FLOWS: Duration = Duration::from_secs(60);
/// How long a configuration may take to be judged: whether somebody has its new VIPs is asked on the network.
const PATIENCE_FOR_A_RELOAD: Duration = Duration::from_secs(30);

/// Where the configuration is, and which controller a verb asks.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file.
    #[arg(long, short, global = true, default_value = "/etc/pgha/pgha.toml", value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Ask the controller there, over TLS, instead of the one on this node.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(super) to: Option<Address>,
    /// Directory of the certificate to show there: `ca.crt`, `node.crt` and `node.key`.
    #[arg(long, global = true, default_value = DIRECTORY, value_name = "DIR")]
    pub(super) tls: PathBuf,
}

impl Options {
    /// The controller that is meant.
    ///
    /// # Errors
    /// When the certificate to show cannot be used, or the configuration file names no socket.
    pub(super) fn controller(&self) -> Result<Controller, ClientError> {
        match &self.to {
            Some(to) => Ok(Controller::There(to.clone(), Box::new(Credentials::load(&self.tls)?))),
            None => Ok(Controller::Here(Config::control_at(&self.config)?)),
        }
    }
}

/// A controller, and how to reach it.
#[derive(Clone, Debug)]
pub(super) enum Controller {
    /// The one on this node, by its socket.
    Here(PathBuf),
    /// One that listens on TCP, and what is shown to it.
    There(Address, Box<Credentials>),
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(path) => write!(f, "{}", path.display()),
            Self::There(address, _) => write!(f, "{address}"),
        }
    }
}

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
        "the controller behind {controller} gave no answer within {} ms; see its log, and whether it is \
         stopped",
        .patience.as_millis()
    )]
    Timeout { controller: String, patience: Duration },
    /// It cannot be reached over TCP.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is nothing to show it.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Where its socket is, is not known.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
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

impl ClientError {
    /// The error of a conversation with a process over TCP: one that it ended because it does not trust this
    /// side is its refusal.
    fn of(self, to: &Address) -> Self {
        let refusal = if let Self::Broken(error) = &self { rpc::refusal(to, error) } else { None };
        refusal.map_or(self, Self::Connect)
    }
}

/// `GET /v1/status`.
pub(super) async fn status(controller: &Controller) -> Result<Status, ClientError> {
    within(PATIENCE, controller, ask(controller, Method::GET, "/v1/status", None::<&()>)).await
}

/// `GET /v1/agent`, of an agent.
pub(super) async fn agent(agent: &Controller) -> Result<AgentStatus, ClientError> {
    let asked = ask(agent, Method::GET, crate::agent::status::PATH, None::<&()>);
    within(PATIENCE, agent, asked).await
}

/// `GET /v1/events`.
pub(super) async fn events(controller: &Controller) -> Result<Events, ClientError> {
    within(PATIENCE, controller, ask(controller, Method::GET, "/v1/events", None::<&()>)).await
}

/// `POST /v1/order`.
pub(super) async fn order(
    controller: &Controller,
    order: &OrderRequest,
) -> Result<OrderReply, ClientError> {
    let asked = ask(controller, Method::POST, "/v1/order", Some(order));
    within(PATIENCE_FOR_ORDERS, controller, asked).await
}

/// `POST /v1/reader`.
pub(super) async fn reader(
    controller: &Controller,
    request: &ReaderRequest,
) -> Result<ReaderReply, ClientError> {
    let asked = ask(controller, Method::POST, "/v1/reader", Some(request));
    within(PATIENCE_FOR_ORDERS, controller, asked).await
}

/// `POST /v1/reload`.
pub(super) async fn reload(controller: &Controller) -> Result<ReloadReply, ClientError> {
    within(
        PATIENCE_FOR_A_RELOAD,
        controller,
        ask(controller, Method::POST, "/v1/reload", None::<&()>),
    )
    .await
}

/// `GET /v1/failover`.
pub(super) async fn failover(controller: &Controller) -> Result<FailoverStatus, ClientError> {
    let asked = ask(controller, Method::GET, failover::PATH, None::<&()>);
    within(PATIENCE, controller, asked).await
}

/// `POST /v1/failover`.
pub(super) async fn order_failover(
    controller: &Controller,
    request: &FailoverRequest,
) -> Result<FailoverReply, ClientError> {
    let asked = ask(controller, Method::POST, failover::PATH, Some(request));
    // It is answered when it is written, or not in time for the lease.
    within(PATIENCE_FOR_FAILOVER, controller, asked).await
}

/// `POST /v1/failover/clear`.
pub(super) async fn clear_failures(
    controller: &Controller,
    request: &ClearRequest,
) -> Result<ClearReply, ClientError> {
    let asked = ask(controller, Method::POST, failover::CLEAR, Some(request));
    within(PATIENCE, controller, asked).await
}

/// `GET /v1/failover/history`.
pub(super) async fn history(controller: &Controller) -> Result<History, ClientError> {
    let asked = ask(controller, Method::GET, failover::HISTORY, None::<&()>);
    within(PATIENCE, controller, asked).await
}

/// `GET /v1/explain`.
pub(super) async fn explain(
    controller: &Controller,
    query: &ExplainQuery,
) -> Result<ExplainReply, ClientError> {
    let path = with_query("/v1/explain", query)?;
    within(PATIENCE, controller, ask(controller, Method::GET, &path, None::<&()>)).await
}

/// `GET /v1/flows`.
pub(super) async fn flows(
    controller: &Controller,
    query: &FlowsQuery,
) -> Result<FlowsReply, ClientError> {
    let path = with_query("/v1/flows", query)?;
    within(PATIENCE_FOR_FLOWS, controller, ask(controller, Method::GET, &path, None::<&()>)).await
}

/// `GET /v1/trace`: the file, as it comes.
pub(super) async fn trace(
    controller: &Controller,
    query: &TraceQuery,
) -> Result<Incoming, ClientError> {
    let path = with_query("/v1/trace", query)?;
    let begun = within(PATIENCE, controller, send(controller, Method::GET, &path, None::<&()>));
    let response = begun.await?;
    if response.status() == StatusCode::OK {
        return Ok(response.into_body());
    }
    let body = response.into_body().collect().await?.to_bytes();
    Err(serde_json::from_slice::<Refusal>(&body)?.into())
}

/// `GET` of any path: whatever the answer is.
pub(super) async fn get(
    controller: &Controller,
    path: &str,
) -> Result<Response<Bytes>, ClientError> {
    within(PATIENCE, controller, async {
        let (parts, body) = send(controller, Method::GET, path, None::<&()>).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    })
    .await
}

fn with_query(path: &str, query: &impl Serialize) -> Result<String, ClientError> {
    Ok(format!("{path}?{}", serde_urlencoded::to_string(query)?))
}

/// `POST /v1/director`.
pub(super) async fn role(
    controller: &Controller,
    request: RoleRequest,
) -> Result<RoleReply, ClientError> {
    within(PATIENCE, controller, ask(controller, Method::POST, "/v1/director", Some(&request)))
        .await
}

async fn within<T>(
    patience: Duration,
    controller: &Controller,
    conversation: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let ended = tokio::time::timeout(patience, conversation).await;
    ended.unwrap_or_else(|_| {
        Err(ClientError::Timeout { controller: controller.to_string(), patience })
    })
}

async fn ask<T: DeserializeOwned>(
    controller: &Controller,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<T, ClientError> {
    let response = send(controller, method, path, body).await?;
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
    controller: &Controller,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Response<Incoming>, ClientError> {
    let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    match controller {
        Controller::Here(path) => {
            let request = request.header("host", "localhost").body(Full::from(body))?;
            exchange(connect(path).await?, request).await
        }
        Controller::There(to, credentials) => {
            let stream = rpc::connect(to, credentials).await?;
            let request = request.header("host", to.to_string()).body(Full::from(body))?;
            exchange(stream, request).await.map_err(|error| error.of(to))
        }
    }
}

async fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(path).await.map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Permission { path }
        } else {
            ClientError::NoController { path, source }
        }
    })
}

/// One request over a connection of its own.
async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, ClientError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    let connection = tokio::spawn(connection);
    match sender.send_request(request).await {
        Ok(response) => Ok(response),
        Err(error) => {
            drop(sender);
            Err(rpc::cause(connection, error).await.into())
        }
    }
}
