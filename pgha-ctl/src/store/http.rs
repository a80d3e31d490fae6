//! A store over HTTP, in its own words (RFC 9110, 13.1): what a record is known by is its entity tag.
//!
//! - `GET /v1/store/KEY`: 200 with the value, or 404 where nothing was ever put; both with `ETag`. With
//!   `If-None-Match` 304 where that is what is still there, and with `Prefer: wait=SECONDS` (RFC 7240) not
//!   before so long.
//! - `PUT /v1/store/KEY` with `If-Match`: 200, or 412 where something else is there, or 504 where nobody
//!   knows what became of it; with any other code it was not put: 413 where the value is too long, 507 where the
//!   store would become too large, 503 where it cannot be used now.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::record::{Key, MAX_VALUE, Mark, Reading};
use super::{CasError, EtcdError, LocalError, Store, StoreError};

/// What stands before a key.
pub const PATH: &str = "/v1/store/";
/// How long a watcher is kept waiting at most.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// One sentence.
    pub(super) error: String,
}

/// The two routes of a store. Who may come this far is for others to say.
pub fn router<S: Store + Clone>(store: S) -> Router {
    Router::new()
        .route(&format!("{PATH}{{key}}"), get(read::<S>).put(write::<S>))
        // One more than a value may have, so that the store itself says what is too long.
        .layer(DefaultBodyLimit::max(MAX_VALUE + 1))
        .with_state(store)
}

async fn read<S: Store>(
    State(store): State<S>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Response {
    let read =
        || Ok::<_, Wrong>((key.parse::<Key>().map_err(bad)?, tag(&headers, &IF_NONE_MATCH)?));
    let (key, seen) = match read() {
        Ok(read) => read,
        Err((code, error)) => return refused(code, &error),
    };
    let found = match seen {
        None => store.get(&key).await,
        Some(seen) => {
            let changed = tokio::time::timeout(wait(&headers), store.watch(&key, seen)).await;
            match changed {
                Ok(changed) => changed,
                Err(_) => match store.get(&key).await {
                    Ok(reading) if reading.mark == seen => {
                        return (StatusCode::NOT_MODIFIED, [(ETAG, quoted(seen))]).into_response();
                    }
                    other => other,
                },
            }
        }
    };
    match found {
        Ok(Reading { mark, value: Some(value) }) => {
            let tag = [(ETAG, quoted(mark)), (CONTENT_TYPE, "application/octet-stream".to_owned())];
            (tag, value).into_response()
        }
        Ok(Reading { mark, value: None }) => {
            let error = format!("nothing was ever put under {key}");
            let refusal = Json(Refusal { error });
            (StatusCode::NOT_FOUND, [(ETAG, quoted(mark))], refusal).into_response()
        }
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error),
    }
}

async fn write<S: Store>(
    State(store): State<S>,
    Path(key): Path<String>,
    headers: HeaderMap,
    value: Bytes,
) -> Response {
    let read = || Ok::<_, Wrong>((key.parse::<Key>().map_err(bad)?, tag(&headers, &IF_MATCH)?));
    let (key, expected) = match read() {
        Ok((key, Some(expected))) => (key, expected),
        Ok((_, None)) => {
            let missing = "the request lacks If-Match, which says what is to be replaced";
            return refused(StatusCode::PRECONDITION_REQUIRED, &missing);
        }
        Err((code, error)) => return refused(code, &error),
    };
    match store.cas(&key, expected, value.into()).await {
        Ok(mark) => [(ETAG, quoted(mark))].into_response(),
        Err(CasError::Conflict(found)) => {
            let refusal = Json(Refusal { error: CasError::Conflict(found).to_string() });
            (StatusCode::PRECONDITION_FAILED, [(ETAG, quoted(found))], refusal).into_response()
        }
        Err(CasError::Failed(
            error @ (StoreError::Local(LocalError::TooLong(_))
            | StoreError::Etcd(EtcdError::TooLong(_))),
        )) => refused(StatusCode::PAYLOAD_TOO_LARGE, &error),
        Err(CasError::Failed(
            error @ (StoreError::Local(LocalError::Full { .. })
            | StoreError::Etcd(EtcdError::Full { .. })),
        )) => refused(StatusCode::INSUFFICIENT_STORAGE, &error),
        Err(CasError::Failed(error)) => refused(StatusCode::SERVICE_UNAVAILABLE, &error),
        Err(CasError::Unknown(error)) => refused(StatusCode::GATEWAY_TIMEOUT, &error),
    }
}

/// What is wrong with a request.
type Wrong = (StatusCode, String);

/// The mark in a header; `None` where the header is missing.
fn tag(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Mark>, Wrong> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let mark = value.to_str().ok().and_then(unquoted);
    let wrong = || bad(format!("{name} is not one entity tag of this store"));
    mark.map(Some).ok_or_else(wrong)
}

pub(super) fn quoted(mark: Mark) -> String {
    format!("\"{mark}\"")
}

pub(super) fn unquoted(tag: &str) -> Option<Mark> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// How long the client prefers to wait.
fn wait(headers: &HeaderMap) -> Duration {
    let preferred = headers.get(PREFER).and_then(|prefer| prefer.to_str().ok());
    let seconds = preferred.and_then(|prefer| prefer.trim().strip_prefix("wait=")?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0)).min(LONGEST_WAIT)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn bad(error: impl ToString) -> Wrong {
    (StatusCode::BAD_REQUEST, error.to_string())
}

fn refused(code: StatusCode, error: &impl ToString) -> Response {
    (code, Json(Refusal { error: error.to_string() })).into_response()
}
