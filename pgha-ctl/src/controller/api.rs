//! The control API: HTTP with JSON, on a Unix socket for root and the controller's own user, and over TCP
//! for those who show a certificate of the cluster. [`access`] says who may what.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::handler::Handler;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use futures_util::stream;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::access::{self, HEALTHZ, PRIMARY, REPLICA};
use super::events::{EventsQuery, EventsReply};
use super::explain::{ExplainQuery, ExplainReply};
use super::flows::FlowsQuery;
use super::health::{HealthReply, Question};
use super::history::{HistoryQuery, Samples};
use super::metrics;
use super::status::{
    OrderReply, OrderRequest, ReaderReply, ReaderRequest, Refusal, ReloadReply, RoleReply,
    RoleRequest, Status,
};
use super::trace::TraceQuery;
use super::turns::{Turn, Turns};
use super::web;
use crate::rpc::server::Caller;
use crate::store::{self, Store};

/// Where the answer to a request goes.
type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A request that waits for the controller.
#[derive(Debug)]
pub(super) enum Request {
    /// `GET /v1/status` and `GET /metrics`.
    Status(Reply<Status>),
    /// `POST /v1/order`, and whose word it is.
    Order(OrderRequest, String, Reply<OrderReply>),
    /// `POST /v1/reader`, and whose word it is.
    Reader(ReaderRequest, String, Reply<ReaderReply>),
    /// `POST /v1/reload`.
    Reload(Reply<ReloadReply>),
    /// `GET /healthz`, `/primary` and `/replica`.
    Health(Question, Reply<HealthReply>),
    /// `POST /v1/director`.
    Role(RoleRequest, Reply<RoleReply>),
    /// `GET /v1/explain`.
    Explain(ExplainQuery, Reply<ExplainReply>),
    /// `GET /v1/flows`: in JSON already, as there may be many.
    Flows(FlowsQuery, Turn, Reply<Bytes>),
    /// `GET /v1/trace`: the parts of a file, as they come.
    Trace(TraceQuery, Reply<mpsc::Receiver<Bytes>>),
    /// `GET /v1/events`.
    Events(EventsQuery, Reply<EventsReply>),
    /// `GET /v1/history`: what is sent is made of it outside the controller's loop.
    History(HistoryQuery, Reply<Samples>),
}

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// What is there is not removed.
    #[error(
        "{0} is there and no socket, so it stays; remove it, or give [director] control another path"
    )]
    NotASocket(PathBuf),
    /// Another process has it.
    #[error(
        "another process listens on {0}; stop that one, or give [director] control another path"
    )]
    InUse(PathBuf),
    /// Anything else.
    #[error("control socket {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
}

/// How long the loop may take to say that it is well.
const WELL: Duration = Duration::from_secs(2);
/// How long a request may take to be answered, or to come in: longer than a watcher of the store waits.
const PATIENCE: Duration = Duration::from_secs(90);
/// The longest body of a request, in bytes. The store takes longer ones.
const BODY: usize = 64 * 1024;

/// The socket's file, which ends with the value.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Opens the socket, for its owner only. A socket that nobody listens on is replaced, and
    /// nothing else: the path may be a mistake.
    pub(super) fn open(path: &Path) -> Result<(UnixListener, Self), SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(there) if !there.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) if is_deserted(path).map_err(failed)? => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(SocketError::InUse(path.to_owned())),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { path: path.to_owned() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok((listener, socket))
    }
}

/// Whether nobody listens on the socket. Does not wait for a listener that has no room (EAGAIN).
fn is_deserted(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(false),
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Nobody listens any more; a file that stays is replaced by the next controller.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Everything that can be asked, behind [`access::guard`].
/// `failover` has the routes of managed nodes, among them that of messages, which has no end.
pub(super) fn router<S: Store + Clone>(
    requests: mpsc::Sender<Request>,
    store: S,
    failover: Router,
) -> Router {
    Router::new()
        .route(HEALTHZ, health(healthz))
        .route(PRIMARY, health(primary))
        .route(REPLICA, health(replica))
        .route("/v1/status", get(status))
        .route("/v1/order", post(order))
        .route("/v1/reader", post(reader))
        .route("/v1/reload", post(reload))
        .route("/v1/director", post(role))
        .route("/v1/explain", get(explain))
        .route("/v1/flows", get(flows).layer(Extension(Turns::default())))
        .route("/v1/trace", get(trace))
        .route("/metrics", get(metrics))
        .merge(web::routes())
        .with_state(requests)
        .merge(store::http::router(store))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(axum::middleware::from_fn(in_time))
        .merge(failover)
        .layer(axum::middleware::from_fn(access::guard))
}

/// Gives up on a request whose body does not come, or that is not answered.
async fn in_time(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let answered = tokio::time::timeout(PATIENCE, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let error = format!("the request took longer than {} s", PATIENCE.as_secs());
        refused(StatusCode::REQUEST_TIMEOUT, Refusal { error })
    })
}

pub(super) type Requests = State<mpsc::Sender<Request>>;

async fn status(State(requests): Requests) -> Response {
    json(ask_status(&requests).await)
}

/// What a request says in its body, or why that cannot be read.
pub(super) type Said<T> = Result<Json<T>, JsonRejection>;

#[expect(clippy::result_large_err, reason = "it is answered at once")]
pub(super) fn read<T>(body: Said<T>) -> Result<T, Response> {
    body.map(|Json(body)| body).map_err(|rejection| {
        let error = format!("the body of the request cannot be read: {}", rejection.body_text());
        refused(rejection.status(), Refusal { error })
    })
}

async fn order(
    State(requests): Requests,
    Extension(caller): Extension<Caller>,
    body: Said<OrderRequest>,
) -> Response {
    let by = caller.name().to_owned();
    match read(body) {
        Ok(order) => json(ask(&requests, |reply| Request::Order(order, by, reply)).await),
        Err(response) => response,
    }
}

async fn reader(
    State(requests): Requests,
    Extension(caller): Extension<Caller>,
    body: Said<ReaderRequest>,
) -> Response {
    let by = caller.name().to_owned();
    match read(body) {
        Ok(request) => json(ask(&requests, |reply| Request::Reader(request, by, reply)).await),
        Err(response) => response,
    }
}

async fn reload(State(requests): Requests) -> Response {
    json(ask(&requests, Request::Reload).await)
}

async fn role(State(requests): Requests, body: Said<RoleRequest>) -> Response {
    match read(body) {
        Ok(request) => json(ask(&requests, |reply| Request::Role(request, reply)).await),
        Err(response) => response,
    }
}

/// A route that load balancers ask: by GET, or for the code alone by HEAD or, as `HAProxy` does by default, by
/// OPTIONS. `Patroni` answers all three.
fn health<H, T>(handler: H) -> MethodRouter<mpsc::Sender<Request>>
where
    H: Handler<T, mpsc::Sender<Request>>,
    T: 'static,
{
    get(handler.clone()).options(handler).layer(axum::middleware::from_fn(bare))
}

/// Leaves the body of an answer to OPTIONS away.
async fn bare(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let code_alone = request.method() == Method::OPTIONS;
    let response = next.run(request).await;
    if code_alone { response.status().into_response() } else { response }
}

async fn healthz(State(requests): Requests) -> Response {
    let asked = ask(&requests, |reply| Request::Health(Question::Process, reply));
    match tokio::time::timeout(WELL, asked).await {
        Ok(answer) => well(answer),
        Err(_) => {
            let reason = format!("the controller gives no answer within {} s", WELL.as_secs());
            well(Ok(HealthReply::no(reason)))
        }
    }
}

async fn primary(State(requests): Requests, RawQuery(query): RawQuery) -> Response {
    let question = |query, reply| Request::Health(Question::Primary(query), reply);
    well(ask_for(&requests, query.as_deref(), question).await)
}

async fn replica(State(requests): Requests, RawQuery(query): RawQuery) -> Response {
    let question = |query, reply| Request::Health(Question::Replica(query), reply);
    well(ask_for(&requests, query.as_deref(), question).await)
}

fn well(answer: Result<HealthReply, Response>) -> Response {
    match answer {
        Ok(reply) if reply.healthy => Json(reply).into_response(),
        Ok(reply) => (StatusCode::SERVICE_UNAVAILABLE, Json(reply)).into_response(),
        Err(response) => response,
    }
}

async fn explain(State(requests): Requests, RawQuery(query): RawQuery) -> Response {
    json(ask_for(&requests, query.as_deref(), Request::Explain).await)
}

async fn flows(
    State(requests): Requests,
    Extension(turns): Extension<Turns>,
    RawQuery(query): RawQuery,
) -> Response {
    let turn = turns.next().await;
    let question = |query, reply| Request::Flows(query, turn, reply);
    match ask_for(&requests, query.as_deref(), question).await {
        Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(response) => response,
    }
}

async fn trace(State(requests): Requests, RawQuery(query): RawQuery) -> Response {
    match ask_for(&requests, query.as_deref(), Request::Trace).await {
        Ok(parts) => {
            let parts = stream::unfold(parts, async |mut parts: mpsc::Receiver<Bytes>| {
                let part = parts.recv().await?;
                Some((Ok::<_, Infallible>(part), parts))
            });
            ([(CONTENT_TYPE, "application/x-pcapng")], Body::from_stream(parts)).into_response()
        }
        Err(response) => response,
    }
}

async fn metrics(State(requests): Requests) -> Response {
    match ask_status(&requests).await.map(metrics::written) {
        Ok(Ok(page)) => ([(CONTENT_TYPE, metrics::MEDIA_TYPE)], page).into_response(),
        Ok(Err(error)) => refused(StatusCode::INTERNAL_SERVER_ERROR, Refusal::of(error)),
        Err(response) => response,
    }
}

pub(super) fn json<T: Serialize>(answer: Result<T, Response>) -> Response {
    answer.map_or_else(|response| response, |body| Json(body).into_response())
}

/// Asks the controller what the query of the request says.
pub(super) async fn ask_for<Q: DeserializeOwned, T>(
    requests: &mpsc::Sender<Request>,
    query: Option<&str>,
    request: impl FnOnce(Q, Reply<T>) -> Request,
) -> Result<T, Response> {
    let query = serde_urlencoded::from_str(query.unwrap_or_default()).map_err(|error| {
        let error = format!("the query of the request cannot be read: {error}");
        refused(StatusCode::UNPROCESSABLE_ENTITY, Refusal { error })
    })?;
    ask(requests, |reply| request(query, reply)).await
}

/// Asks what may be refused for what the request says.
async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, Response> {
    let replied = replied(requests, request).await?;
    replied.map_err(|refusal| refused(StatusCode::UNPROCESSABLE_ENTITY, refusal))
}

/// Asks for the status. Nothing can be wrong with that request: if it fails, the data plane could not be
/// read.
async fn ask_status(requests: &mpsc::Sender<Request>) -> Result<Status, Response> {
    let replied = replied(requests, Request::Status).await?;
    replied.map_err(|refusal| refused(StatusCode::INTERNAL_SERVER_ERROR, refusal))
}

/// What the controller replies, unless it is ending.
async fn replied<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<Result<T, Refusal>, Response> {
    let (reply, replied) = oneshot::channel();
    if requests.send(request(reply)).await.is_ok()
        && let Ok(replied) = replied.await
    {
        return Ok(replied);
    }
    let error = "the controller is ending".to_owned();
    Err(refused(StatusCode::SERVICE_UNAVAILABLE, Refusal { error }))
}

pub(super) fn refused(code: StatusCode, refusal: Refusal) -> Response {
    (code, Json(refusal)).into_response()
}
