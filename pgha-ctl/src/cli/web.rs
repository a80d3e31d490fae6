//! `pgha web`: the status page in a browser. Browsers speak neither to Unix sockets nor with the cluster's
//! certificates, so this forwards what the page asks for, and nothing else, from a port of the loopback
//! interface to the controller.
//!
//! That port is open to every process and every user of the machine, and, through a browser, to every page
//! that somebody reads there. So each request must carry a random token, which is in the printed URL and
//! from then on in a cookie, and must name this machine as its host: a foreign name that was made to lead to
//! 127.0.0.1 is turned away. Cookies are the same for all ports of a host (RFC 6265, section 8.5), so this one
//! is for a random path only, below which the page is: other ports do not get to see it.

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, LOCATION,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use clap::Args;
use tokio::net::TcpListener;

use super::client::{self, Controller, Options};
use crate::controller::token;

/// What the page asks for: nothing else is forwarded.
const FORWARDED: [&str; 4] = ["/", "/v1/status", "/v1/history", "/v1/events"];
/// What the controller says of its answers that the browser is to know.
const PASSED_ON: [HeaderName; 5] =
    [CONTENT_TYPE, CONTENT_SECURITY_POLICY, CACHE_CONTROL, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS];

/// Where the page is served.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address and port on the loopback interface; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
}

/// The page cannot be served.
#[derive(Debug, thiserror::Error)]
enum WebError {
    /// Others could read it.
    #[error(
        "{0} is no address of the loopback interface, and the page is for this machine only; from another, \
         forward a port: ssh -L 8080:127.0.0.1:PORT {0}"
    )]
    NotLoopback(IpAddr),
    /// The port cannot be opened.
    #[error("cannot listen on {at}: {source}; choose another by --listen")]
    Listen { at: SocketAddr, source: std::io::Error },
    /// No secret.
    #[error("the system has no random numbers for the page's token")]
    NoToken,
}

/// What the forwarder knows.
#[derive(Debug)]
struct Forwarder {
    controller: Controller,
    token: String,
    /// Below it the page is; it begins with a slash, and has no other.
    path: String,
    /// Name of the cookie, so that two of these leave each other's alone.
    cookie: String,
}

/// Serves until Ctrl-C.
pub(super) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<()> {
    let at = arguments.listen;
    if !at.ip().is_loopback() {
        return Err(WebError::NotLoopback(at.ip()).into());
    }
    let controller = options.controller()?;
    // Who has no controller is told now, and not by an empty page.
    client::status(&controller).await?;
    let listener = TcpListener::bind(at).await.map_err(|source| WebError::Listen { at, source })?;
    let at = listener.local_addr().map_err(|source| WebError::Listen { at, source })?;
    let random = || token().map_err(|_| WebError::NoToken);
    let (token, path) = (random()?, format!("/{}", random()?));
    let url = format!("http://{at}/?token={token}");
    let forwarder = Forwarder { controller, token, path, cookie: format!("pgha-{}", at.port()) };
    println!("{url}");
    println!("Open this URL in a browser of this machine. Ctrl-C ends it.");
    std::io::stdout().flush()?;
    let service = Router::new().fallback(answer).with_state(Arc::new(forwarder));
    tokio::select! {
        served = axum::serve(listener, service) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<'r> {
    /// Ask the controller for this.
    Forward(&'r str),
    /// It brings the token in its URL: from now on in a cookie, and out of sight.
    Welcome,
    /// Not this.
    Refuse(StatusCode, &'static str),
}

async fn answer(State(forwarder): State<Arc<Forwarder>>, request: Request) -> Response {
    match forwarder.judge(request.method(), request.uri(), request.headers()) {
        Verdict::Forward(path) => {
            let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
            forward(&forwarder.controller, &format!("{path}{query}")).await
        }
        Verdict::Welcome => {
            let Forwarder { cookie, token, path, .. } = &*forwarder;
            let cookie = format!("{cookie}={token}; Path={path}; HttpOnly; SameSite=Strict");
            let headers = [(LOCATION, format!("{path}/")), (SET_COOKIE, cookie)];
            (StatusCode::SEE_OTHER, headers, [(CACHE_CONTROL, "no-store")]).into_response()
        }
        Verdict::Refuse(code @ StatusCode::METHOD_NOT_ALLOWED, why) => {
            (code, [(ALLOW, "GET, HEAD")], format!("{why}\n")).into_response()
        }
        Verdict::Refuse(code, why) => (code, format!("{why}\n")).into_response(),
    }
}

impl Forwarder {
    fn judge<'r>(&self, method: &Method, uri: &'r Uri, headers: &HeaderMap) -> Verdict<'r> {
        if !names_this_machine(headers) {
            return Verdict::Refuse(
                StatusCode::FORBIDDEN,
                "this page is for this machine only, by the name localhost or its address",
            );
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Verdict::Refuse(StatusCode::METHOD_NOT_ALLOWED, "this page only reads");
        }
        if uri.path() == "/"
            && uri.query().is_some_and(|query| self.is_token_of(query, '&', "token"))
        {
            return Verdict::Welcome;
        }
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
        if !cookies.into_iter().any(|cookies| self.is_token_of(cookies, ';', &self.cookie)) {
            return Verdict::Refuse(
                StatusCode::FORBIDDEN,
                "open the URL that `pgha web` printed: it has a token, which is needed once",
            );
        }
        let asked = uri.path().strip_prefix(&self.path);
        match asked.filter(|path| FORWARDED.contains(path)) {
            Some(path) => Verdict::Forward(path),
            None => Verdict::Refuse(StatusCode::NOT_FOUND, "there is nothing of that name"),
        }
    }

    /// Whether a list of pairs has the token under that name.
    fn is_token_of(&self, pairs: &str, separator: char, name: &str) -> bool {
        let mut pairs = pairs.split(separator).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(key, value)| key == name && is_same(value, &self.token))
    }
}

/// Takes as long whatever the first difference is.
fn is_same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |seen, (a, b)| seen | (a ^ b));
    one.len() == other.len() && differences == 0
}

/// Whether the host of a request is this machine, on whatever port: it may have been forwarded.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(Ok(authority)) = host.map(str::parse::<Authority>) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn forward(controller: &Controller, path: &str) -> Response {
    match client::get(controller, path).await {
        Ok(answer) => {
            let (parts, body) = answer.into_parts();
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = parts.status;
            for name in PASSED_ON {
                if let Some(value) = parts.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            response
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
    }
}
