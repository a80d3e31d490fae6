//! Who may ask what. Every request passes here before it reaches a route, and what is not named is the
//! operators' alone: no route can be forgotten.

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::api::refused;
use super::status::Refusal;
use super::{book, failover};
use crate::rpc::post;
use crate::rpc::server::Caller;
use crate::store::{self, Key};

/// Where anybody learns whether this process is well, and nothing else.
pub(super) const HEALTHZ: &str = "/healthz";

/// What load balancers ask, besides.
pub(super) const PRIMARY: &str = "/primary";
pub(super) const REPLICA: &str = "/replica";

/// What of the store only persons change from outside a controller: what they order, and what is remembered of it.
const OPERATORS_KEYS: [&str; 2] = [book::KEY, failover::HISTORY_KEY];

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Anybody who gets this far.
    Anybody,
    /// Nodes and operators.
    Reader,
    /// Operators.
    Operator,
}

/// Who may ask that.
fn access(method: &Method, path: &str) -> Access {
    let asks = method == Method::OPTIONS && [HEALTHZ, PRIMARY, REPLICA].contains(&path);
    let reads = asks || method == Method::GET || method == Method::HEAD;
    match path.strip_prefix(store::http::PATH).map(str::parse::<Key>) {
        _ if reads && path == HEALTHZ => Access::Anybody,
        // It shows what clients say, and has the programs exchanged.
        _ if path == "/v1/trace" => Access::Operator,
        // The processes of the cluster keep their records there. Orders are given by persons. A path that
        // spells a key in another way than plainly is none of theirs.
        Some(Ok(key)) if method == Method::PUT && !OPERATORS_KEYS.contains(&key.as_str()) => {
            Access::Reader
        }
        // Each says how it is; whose word it is, is looked at there.
        _ if method == Method::POST && path == post::PATH => Access::Reader,
        _ if reads => Access::Reader,
        _ => Access::Operator,
    }
}

/// Lets a request through, or says why not.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let caller = request.extensions().get().unwrap_or(&Caller::Nobody);
    let (method, now) = (request.method(), SystemTime::now());
    let access = access(method, request.uri().path());
    let may = match access {
        Access::Anybody => *caller != Caller::OtherUser,
        Access::Reader => caller.reads(now),
        Access::Operator => caller.steers(now),
    };
    if !may {
        let (code, error) = denial(caller, access, now);
        return refused(code, Refusal { error });
    }
    if is_for_another_site(request.headers()) {
        let error = "a browser asked this for the page of another site, which is not answered";
        return refused(StatusCode::FORBIDDEN, Refusal { error: error.to_owned() });
    }
    // A browser that does not say so sends no JSON for another site without asking first, and that is never
    // answered.
    if method == Method::POST && !is_json(request.headers()) {
        let error = "a request that changes something has Content-Type: application/json";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, Refusal { error: error.to_owned() });
    }
    next.run(request).await
}

/// Whether a browser says so (Fetch Metadata Request Headers): with the certificate of a person it may ask
/// for any page. Who comes from no browser says nothing.
fn is_for_another_site(headers: &HeaderMap) -> bool {
    let own = |site: &HeaderValue| site == "same-origin" || site == "none";
    !headers.get_all("sec-fetch-site").iter().all(own)
}

/// Whether the body is JSON, with whatever parameters (RFC 9110, section 8.3.1).
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split_once(';').map_or(kind, |(essence, _)| essence).trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn denial(caller: &Caller, access: Access, now: SystemTime) -> (StatusCode, String) {
    let error = match caller {
        Caller::Nobody => {
            let error = "show a certificate of this cluster: pgha tls issue makes one";
            return (StatusCode::UNAUTHORIZED, error.to_owned());
        }
        Caller::OtherUser | Caller::Owner(_) => {
            "only root and the controller's own user may use the control socket".to_owned()
        }
        Caller::Holder(holder) if holder.until < now => {
            format!("the certificate of {} has expired; renew it: pgha tls renew", holder.name)
        }
        Caller::Holder(holder) if access == Access::Operator && holder.role.is_some() => format!(
            "{} is a node, and only operators may do this; show a certificate made with: pgha tls \
             issue --operator",
            holder.name
        ),
        Caller::Holder(holder) => format!(
            "the certificate of {} is of neither a node nor an operator (OU of its subject); show one \
             made with: pgha tls issue",
            holder.name
        ),
    };
    (StatusCode::FORBIDDEN, error)
}
