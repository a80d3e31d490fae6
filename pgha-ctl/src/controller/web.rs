//! The status page, and what it alone asks for: it reads, and changes nothing.
//!
//! The page is one file of the binary, without a framework and without anything from elsewhere. It is sent
//! with a policy (Content Security Policy Level 3) under which a browser runs its one script and talks to
//! nobody but this controller, whatever stands in a name.

#[cfg(test)]
mod tests;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use rustls::crypto::ring;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::api::{Request, Requests, ask_for, json, refused};
use super::history;
use super::status::Refusal;
use super::turns::Turns;
use crate::clock::unix_ms;

const PAGE: &str = include_str!("web/page.html");
/// Stands in the page where the nonce of one answer goes.
const NONCE: &str = "{nonce}";

/// The page and its data.
pub(super) fn routes() -> Router<mpsc::Sender<Request>> {
    Router::new()
        .route("/", get(page))
        .route("/v1/history", get(history).layer(Extension(Turns::default())))
        .route("/v1/events", get(events))
}

async fn page() -> Response {
    let Ok(nonce) = token() else {
        let error = "the system has no random numbers to protect the page with".to_owned();
        return refused(StatusCode::INTERNAL_SERVER_ERROR, Refusal { error });
    };
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, policy(&nonce)),
        (CACHE_CONTROL, "no-store".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (headers, PAGE.replace(NONCE, &nonce)).into_response()
}

/// Nothing, but for the page's own script and style and requests to where it came from. It is shown in no
/// frame, and no text ever becomes markup.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

async fn events(State(requests): Requests, RawQuery(query): RawQuery) -> Response {
    fresh(json(ask_for(&requests, query.as_deref(), Request::Events).await))
}

async fn history(
    State(requests): Requests,
    Extension(turns): Extension<Turns>,
    RawQuery(query): RawQuery,
) -> Response {
    let turn = turns.next().await;
    let samples = match ask_for(&requests, query.as_deref(), Request::History).await {
        Ok(samples) => samples,
        Err(response) => return response,
    };
    // Of many servers this takes milliseconds, in which the controller has better things to do.
    let written = spawn_blocking(move || {
        let written = serde_json::to_vec(&history::written(&samples, unix_ms()));
        drop(turn);
        written
    });
    match written.await {
        Ok(Ok(body)) => fresh(([(CONTENT_TYPE, "application/json")], body).into_response()),
        Ok(Err(error)) => refused(StatusCode::INTERNAL_SERVER_ERROR, Refusal::of(error)),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, Refusal::of(error)),
    }
}

/// What is true now only.
fn fresh(response: Response) -> Response {
    ([(CACHE_CONTROL, "no-store")], response).into_response()
}

/// 128 random bits in hexadecimal digits: what nobody can guess.
///
/// # Errors
/// When the system has none.
pub(crate) fn token() -> Result<String, rustls::crypto::GetRandomFailed> {
    let mut bits = [0; 16];
    ring::default_provider().secure_random.fill(&mut bits)?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}
