//! One member of etcd, as a client reaches it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::EtcdError;
use super::wire::{Refusal, WATCH};
use crate::config::{Endpoint, EtcdTls};
use crate::rpc::credentials;
use crate::store::exchange::{Connection, Failure, Peer, begin, exchange};
use crate::store::record::MAX_VALUE;

/// Of a watch: what is longer without an end carries a value, so it is a change.
const LONGEST_NEWS: usize = 4096;

/// How etcd says that its quota is reached (`ErrGRPCNoSpace` in etcd's api/v3rpc/rpctypes/error.go).
const NO_SPACE: &str = "database space exceeded";

/// Of an answer that is no gateway's: as much is shown, in characters.
const LONGEST_QUOTE: usize = 200;

/// A member. One connection is kept for reads and writes, each watch has its own.
#[derive(Debug)]
pub(super) struct Member {
    at: Endpoint,
    tls: Option<EtcdTls>,
    timeout: Duration,
    kept: Mutex<Option<Connection>>,
}

impl Member {
    pub(super) fn new(at: Endpoint, tls: Option<EtcdTls>, timeout: Duration) -> Self {
        Self { at, tls, timeout, kept: Mutex::default() }
    }

    pub(super) const fn at(&self) -> &Endpoint {
        &self.at
    }

    /// Asks it, and waits for the answer for so long.
    pub(super) async fn ask(
        &self,
        path: &'static str,
        body: &Bytes,
        token: Option<&HeaderValue>,
        patience: Duration,
    ) -> Result<Bytes, Failure<EtcdError>> {
        let request = || self.request(path, body, token);
        let (head, body) = exchange(self, &self.kept, request, patience).await?;
        if head.status.is_success() {
            return Ok(body);
        }
        let at = self.at.clone();
        match Refusal::read(&body) {
            Some(Refusal { message, code })
                if code.is_exhausted() && message.contains(NO_SPACE) =>
            {
                Err(Failure::Unsent(EtcdError::Full { at, message }))
            }
            Some(Refusal { message, code }) => {
                let error = EtcdError::Refused { at, message, code };
                Err(if code.is_definite() { Failure::Unsent(error) } else { Failure::Sent(error) })
            }
            // In words, and before anything is done (`accessController` in etcd's embed/serve.go).
            None if body.starts_with(b"CommonName of client") => {
                Err(Failure::Unsent(EtcdError::CommonName { at }))
            }
            None => {
                let body = String::from_utf8_lossy(&body);
                let body: String = body.trim_end().chars().take(LONGEST_QUOTE).collect();
                let what = format!("HTTP {} to {path}: {body}", head.status);
                let error = EtcdError::Unreadable { at, what };
                // Nobody there knows the gateway's words, so none of them was obeyed.
                let unknown = head.status.as_u16() == 404;
                Err(if unknown { Failure::Unsent(error) } else { Failure::Sent(error) })
            }
        }
    }

    /// Waits until it tells of a change, or has said nothing for so long.
    ///
    /// # Errors
    /// When it cannot be watched, or ends the watch: whoever tries again at once would only try all the time.
    pub(super) async fn follow(
        &self,
        body: &Bytes,
        token: Option<&HeaderValue>,
        quiet: Duration,
    ) -> Result<(), EtcdError> {
        let lost = |error: hyper::Error| self.lost(io::Error::other(error));
        let mut connection = self.connect().await?;
        let mut request =
            self.request(WATCH, body, token).map_err(|error| self.lost(io::Error::other(error)))?;
        // A member that has lost its leader then ends the watch instead of staying silent.
        request.headers_mut().insert("grpc-metadata-hasleader", HeaderValue::from_static("true"));
        let response = timeout(self.timeout, connection.begin_answer(request)).await;
        let response = response.map_err(|_| self.late(self.timeout))?.map_err(lost)?;
        if !response.status().is_success() {
            let (at, what) = (self.at.clone(), format!("HTTP {} to {WATCH}", response.status()));
            return Err(EtcdError::Unreadable { at, what });
        }
        match timeout(quiet, news(response.into_body())).await {
            // Quiet is no trouble: whoever waits reads again then.
            Err(_) | Ok(Ok(News::Change)) => Ok(()),
            Ok(Ok(News::Ended(why))) => Err(EtcdError::WatchEnded { at: self.at.clone(), why }),
            Ok(Err(error)) => Err(lost(error)),
        }
    }

    fn request(
        &self,
        path: &'static str,
        body: &Bytes,
        token: Option<&HeaderValue>,
    ) -> hyper::http::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(path)
            .header(HOST, self.at.authority())
            // Without it etcd takes this for its own gateway's certificate asking, and obeys whatever user that
            // one names (CVE-2018-16886; `AuthInfoFromTLS` in etcd's auth/store.go looks for this header).
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        request.body(body.clone().into())
    }
}

/// What a watch brings.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Change,
    /// No more comes, for that reason.
    Ended(String),
}

/// Returns with the first message that is more than "the watch has begun", or with the end of them.
async fn news(mut body: Incoming) -> hyper::Result<News> {
    let mut line = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > LONGEST_NEWS {
                return Ok(News::Change);
            }
            if line.ends_with(b"\n") {
                if let Some(news) = meaning(&line) {
                    return Ok(news);
                }
                line.clear();
            }
        }
    }
    Ok(News::Ended("it says no more".to_owned()))
}

/// What a message of a watch says; `None` where only that it has begun.
fn meaning(line: &[u8]) -> Option<News> {
    let ended = |why: &dyn ToString| Some(News::Ended(why.to_string()));
    let message: serde_json::Value = match serde_json::from_slice(line) {
        Ok(message) => message,
        Err(error) => return ended(&error),
    };
    let result = &message["result"];
    if result["canceled"] == true || !result.is_object() {
        return ended(&message);
    }
    let only_begun = result["created"] == true && result["events"].is_null();
    if only_begun { None } else { Some(News::Change) }
}

impl Peer for Member {
    type Error = EtcdError;
    /// Two values in base64, and the words around them.
    const LONGEST: usize = MAX_VALUE / 3 * 4 + 64 * 1024;

    async fn connect(&self) -> Result<Connection, EtcdError> {
        let config = match &self.tls {
            Some(tls) => {
                let shown = tls.shown.as_ref().map(|(cert, key)| (&**cert, &**key));
                Some(credentials::client_config(&tls.ca, shown)?)
            }
            None => None,
        };
        let connecting = async {
            let stream = TcpStream::connect((self.at.host(), self.at.port()))
                .await
                .map_err(|source| EtcdError::Connect { at: self.at.clone(), source })?;
            // Requests are small and waited for.
            let _ = stream.set_nodelay(true);
            let begun = match config {
                None => begin(stream).await,
                Some(config) => {
                    let refused = |source| EtcdError::Tls { at: self.at.clone(), source };
                    let name = ServerName::try_from(self.at.host().to_owned())
                        .map_err(|error| refused(io::Error::other(error)))?;
                    let connector = TlsConnector::from(Arc::new(config));
                    begin(connector.connect(name, stream).await.map_err(refused)?).await
                }
            };
            begun.map_err(|error| self.lost(io::Error::other(error)))
        };
        timeout(self.timeout, connecting).await.unwrap_or_else(|_| Err(self.late(self.timeout)))
    }

    fn lost(&self, source: io::Error) -> EtcdError {
        EtcdError::Lost { at: self.at.clone(), source }
    }

    fn late(&self, patience: Duration) -> EtcdError {
        EtcdError::Late { at: self.at.clone(), patience }
    }
}

#[cfg(test)]
mod tests;
