//! A controller's store, from another process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ETAG, HOST, IF_MATCH, IF_NONE_MATCH};
use hyper::http::response::Parts;
use hyper::{Request, StatusCode};
use tokio::sync::Mutex;

use super::exchange::{Connection, Failure, Peer, begin, exchange, exchange_over};
use super::http::{LONGEST_WAIT, PATH, PREFER, Refusal, quoted, unquoted};
use super::record::{Key, MAX_VALUE, Mark, Reading};
use super::{CasError, Store, StoreError};
use crate::rpc::client::{Address, ConnectError, connect, refusal};
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

/// An answer, whole.
struct Answer {
    code: StatusCode,
    mark: Option<Mark>,
    body: Bytes,
}

impl Answer {
    fn of((head, body): (Parts, Bytes)) -> Self {
        let tag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        Self { code: head.status, mark: tag.and_then(unquoted), body }
    }
}

impl Peer for Shared {
    type Error = RemoteError;
    /// Errors are short, values bounded.
    const LONGEST: usize = MAX_VALUE;

    async fn connect(&self) -> Result<Connection, RemoteError> {
        let stream = connect(&self.at, &Credentials::load(&self.tls)?).await?;
        begin(stream).await.map_err(|error| self.lost(io::Error::other(error)))
    }

    fn lost(&self, source: io::Error) -> RemoteError {
        match refusal(&self.at, &source) {
            Some(refused) => refused.into(),
            None => RemoteError::Lost { at: self.at.clone(), source },
        }
    }

    fn unread(lost: &RemoteError) -> bool {
        matches!(lost, RemoteError::Connect(_))
    }

    fn late(&self, patience: Duration) -> RemoteError {
        RemoteError::Timeout { at: self.at.clone(), patience }
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
        let request = || request().body(Full::default());
        let answer = exchange(&*self.shared, &self.shared.kept, request, PATIENCE).await;
        Ok(self.shared.reading(Answer::of(answer.map_err(Failure::error)?))?)
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        let (request, value) = (self.shared.request("PUT", key), Bytes::from(value));
        let request = || request().header(IF_MATCH, quoted(expected)).body(value.clone().into());
        match exchange(&*self.shared, &self.shared.kept, request, PATIENCE).await {
            Ok(answer) => self.shared.put(Answer::of(answer)),
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
            let patience = LONGEST_WAIT + PATIENCE;
            let answer = exchange_over(&**shared, &mut own, request, patience).await;
            let answer = Answer::of(answer.map_err(Failure::error)?);
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

    fn unreadable(&self, what: &impl ToString) -> RemoteError {
        RemoteError::Unreadable { at: self.at.clone(), what: what.to_string() }
    }
}
