//! A controller's store, from another process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ETAG, HOST, IF_MATCH, IF_NONE_MATCH};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::http::{LONGEST_WAIT, PATH, PREFER, Refusal, quoted, unquoted};
use super::record::{Key, MAX_VALUE, Mark, Reading};
use super::{CasError, Store, StoreError};
use crate::rpc::client::{Address, ConnectError, cause, connect, refusal};
use crate::rpc::credentials::{Credentials, CredentialsError};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A controller's store cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum RemoteError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("the connection to the store at {at} ended before its answer: {source}")]
    Lost { at: Address, source: io::Error },
    #[error("the store at {at} gave no answer within {} s", .patience.as_secs())]
    Timeout { at: Address, patience: Duration },
    #[error("the store at {at} refuses ({code}): {error}")]
    Refused { at: Address, code: StatusCode, error: String },
    #[error(
        "the answer of the store at {at} cannot be read: {what}; is it a controller of this version?"
    )]
    Unreadable { at: Address, what: String },
}

/// A controller's store. One connection is kept for reads and writes, each watch has its own.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    at: Address,
    tls: PathBuf,
    kept: Mutex<Option<Connection>>,
}

/// A connection that takes requests, and what it ends with.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<hyper::Result<()>>,
}

/// An answer, whole.
struct Answer {
    code: StatusCode,
    mark: Option<Mark>,
    body: Bytes,
}

/// Whether a request that failed may have been carried out.
enum Failure {
    /// It never left, or nobody read it.
    Unsent(RemoteError),
    /// It may have.
    Sent(RemoteError),
}

impl Failure {
    fn error(self) -> RemoteError {
        match self {
            Self::Unsent(error) | Self::Sent(error) => error,
        }
    }
}

impl Remote {
    /// The store of the controller at `at`, with the credentials in the directory `tls`, which are read for
    /// each connection. Nothing is connected yet.
    #[must_use]
    pub fn new(at: Address, tls: &Path) -> Self {
        let (tls, kept) = (tls.to_owned(), Mutex::default());
        Self { shared: Arc::new(Shared { at, tls, kept }) }
    }
}

impl Store for Remote {
    async fn get(&self, key: &Key) -> Result<Reading, StoreError> {
        let request = self.shared.request("GET", key);
        let answer = self.shared.exchange(|| request().body(Full::default()), PATIENCE).await;
        let answer = answer.map_err(Failure::error)?;
        Ok(self.shared.reading(answer)?)
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        let (request, value) = (self.shared.request("PUT", key), Bytes::from(value));
        let request = || request().header(IF_MATCH, quoted(expected)).body(value.clone().into());
        match self.shared.exchange(request, PATIENCE).await {
            Ok(answer) => self.shared.put(answer),
            Err(Failure::Unsent(error)) => Err(CasError::Failed(error.into())),
            Err(Failure::Sent(error)) => Err(CasError::Unknown(error.into())),
        }
    }

    async fn watch(&self, key: &Key, seen: Mark) -> Result<Reading, StoreError> {
        let shared = &self.shared;
        let request = shared.request("GET", key);
        let wait = format!("wait={}", LONGEST_WAIT.as_secs());
        loop {
            let request = || {
                let request = request().header(IF_NONE_MATCH, quoted(seen)).header(PREFER, &*wait);
                request.body(Full::default())
            };
            // A connection of its own: an answer that comes when something happens would hold up others.
            let mut own = None;
            let answer = shared.exchange_over(&mut own, request, LONGEST_WAIT + PATIENCE).await;
            let answer = answer.map_err(Failure::error)?;
            if answer.code != StatusCode::NOT_MODIFIED {
                return Ok(shared.reading(answer)?);
            }
        }
    }
}

impl Shared {
    fn request(
        &self,
        method: &'static str,
        key: &Key,
    ) -> impl Fn() -> hyper::http::request::Builder {
        let (path, host) = (format!("{PATH}{key}"), self.at.to_string());
        move || Request::builder().method(method).uri(&*path).header(HOST, &*host)
    }

    /// One request over the connection that is kept, or a new one that is kept then.
    async fn exchange(
        &self,
        request: impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let mut kept = self.kept.lock().await.take();
        let answer = self.exchange_over(&mut kept, request, patience).await?;
        *self.kept.lock().await = kept;
        Ok(answer)
    }

    /// One request over `kept`, or a new connection that is left there then.
    async fn exchange_over(
        &self,
        kept: &mut Option<Connection>,
        request: impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        if let Some(mut connection) = kept.take()
            && connection.sender.ready().await.is_ok()
        {
            match self.send(connection, &request, patience).await {
                // The other side had closed it since.
                Err(Failure::Unsent(_)) => {}
                answered => {
                    let (answer, connection) = answered?;
                    *kept = Some(connection);
                    return Ok(answer);
                }
            }
        }
        let connection = self.connect().await.map_err(Failure::Unsent)?;
        let (answer, connection) = self.send(connection, &request, patience).await?;
        *kept = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, RemoteError> {
        let stream = connect(&self.at, &Credentials::load(&self.tls)?).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| self.lost(error))?;
        // It ends with the sender.
        Ok(Connection { sender, task: tokio::spawn(connection) })
    }

    /// One request, and the connection that is good for another.
    async fn send(
        &self,
        connection: Connection,
        request: &impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>,
        patience: Duration,
    ) -> Result<(Answer, Connection), Failure> {
        let request = request().map_err(|error| Failure::Unsent(self.unreadable(&error)))?;
        let timeout = || RemoteError::Timeout { at: self.at.clone(), patience };
        tokio::time::timeout(patience, self.converse(connection, request))
            .await
            .unwrap_or_else(|_| Err(Failure::Sent(timeout())))
    }

    async fn converse(
        &self,
        connection: Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<(Answer, Connection), Failure> {
        let Connection { mut sender, task } = connection;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                drop(sender);
                let lost = self.lost(cause(task, error.into_error()).await);
                // Who does not trust this side has read nothing.
                let unread = matches!(lost, RemoteError::Connect(_));
                return Err(if unsent || unread {
                    Failure::Unsent(lost)
                } else {
                    Failure::Sent(lost)
                });
            }
        };
        let (head, body) = response.into_parts();
        // Errors are short, values bounded.
        let body = Limited::new(body, MAX_VALUE).collect().await;
        let body = body.map_err(|error| Failure::Sent(self.lost(io::Error::other(error))))?;
        let tag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        let mark = tag.and_then(unquoted);
        let answer = Answer { code: head.status, mark, body: body.to_bytes() };
        Ok((answer, Connection { sender, task }))
    }

    fn reading(&self, answer: Answer) -> Result<Reading, RemoteError> {
        let Answer { code, mark, body } = answer;
        match (code, mark) {
            (StatusCode::OK, Some(mark)) => Ok(Reading { mark, value: Some(body.into()) }),
            (StatusCode::NOT_FOUND, Some(mark)) => Ok(Reading { mark, value: None }),
            (StatusCode::OK, None) => Err(self.unreadable(&"it lacks an ETag")),
            _ => Err(self.refused(code, &body)),
        }
    }

    fn put(&self, answer: Answer) -> Result<Mark, CasError> {
        let Answer { code, mark, body } = answer;
        match (code, mark) {
            (StatusCode::OK, Some(mark)) => Ok(mark),
            (StatusCode::PRECONDITION_FAILED, Some(found)) => Err(CasError::Conflict(found)),
            (StatusCode::OK, None) => {
                Err(CasError::Unknown(self.unreadable(&"it lacks an ETag").into()))
            }
            (StatusCode::GATEWAY_TIMEOUT, _) => {
                Err(CasError::Unknown(self.refused(code, &body).into()))
            }
            _ => Err(CasError::Failed(self.refused(code, &body).into())),
        }
    }

    fn refused(&self, code: StatusCode, body: &[u8]) -> RemoteError {
        let told = serde_json::from_slice(body).map(|Refusal { error }| error);
        let error = told.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
        RemoteError::Refused { at: self.at.clone(), code, error }
    }

    fn lost(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RemoteError {
        let source = io::Error::other(error);
        match refusal(&self.at, &source) {
            Some(refused) => refused.into(),
            None => RemoteError::Lost { at: self.at.clone(), source },
        }
    }

    fn unreadable(&self, what: &impl ToString) -> RemoteError {
        RemoteError::Unreadable { at: self.at.clone(), what: what.to_string() }
    }
}
