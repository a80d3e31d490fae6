use axum::http::{HeaderValue, Uri};

use super::*;

fn forwarder() -> Forwarder {
    Forwarder {
        controller: Controller::Here("/nowhere".into()),
        token: "0123abcd".to_owned(),
        cookie: "pgha-8080".to_owned(),
    }
}

fn judge(method: &Method, uri: &str, headers: &[(HeaderName, &str)]) -> Verdict {
    let headers =
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
    forwarder().judge(method, &uri.parse::<Uri>().unwrap(), &headers.collect())
}

fn refused(method: &Method, uri: &str, headers: &[(HeaderName, &str)]) -> Option<StatusCode> {
    match judge(method, uri, headers) {
        Verdict::Refuse(code, _) => Some(code),
        Verdict::Forward | Verdict::Welcome => None,
    }
}

const HERE: (HeaderName, &str) = (HOST, "127.0.0.1:8080");
const KNOWN: (HeaderName, &str) = (COOKIE, "theme=dark; pgha-8080=0123abcd");

#[test]
fn the_token_opens_the_page_and_the_cookie_keeps_it_open() {
    assert_eq!(judge(&Method::GET, "/?token=0123abcd", &[HERE]), Verdict::Welcome);
    for path in FORWARDED {
        assert_eq!(judge(&Method::GET, path, &[HERE, KNOWN]), Verdict::Forward, "{path}");
    }
    assert_eq!(judge(&Method::GET, "/v1/events?since=7", &[HERE, KNOWN]), Verdict::Forward);
}

#[test]
fn nothing_is_read_without_the_token() {
    for uri in
        ["/", "/?token=", "/?token=0123abc", "/?token=0123abcde", "/v1/status?token=0123abcd"]
    {
        assert_eq!(refused(&Method::GET, uri, &[HERE]), Some(StatusCode::FORBIDDEN), "{uri}");
    }
    for cookie in ["pgha-8080=0123abce", "pgha-8081=0123abcd", "pgha-8080", "xpgha-8080=0123abcd"] {
        let headers = [HERE, (COOKIE, cookie)];
        assert_eq!(refused(&Method::GET, "/", &headers), Some(StatusCode::FORBIDDEN), "{cookie}");
    }
}

#[test]
fn nothing_but_reading_what_the_page_shows_is_forwarded() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let code = refused(&method, "/v1/status", &[HERE, KNOWN]);
        assert_eq!(code, Some(StatusCode::METHOD_NOT_ALLOWED), "{method}");
    }
    for path in ["/v1/order", "/v1/flows", "/v1/trace", "/metrics", "/v1/status/", "//v1/status"] {
        let code = refused(&Method::GET, path, &[HERE, KNOWN]);
        assert_eq!(code, Some(StatusCode::NOT_FOUND), "{path}");
    }
}

#[test]
fn another_name_for_this_machine_is_turned_away() {
    for host in ["evil.example", "evil.example:8080", "10.0.0.7:8080", "localhost.evil.example", ""]
    {
        let code = refused(&Method::GET, "/?token=0123abcd", &[(HOST, host)]);
        assert_eq!(code, Some(StatusCode::FORBIDDEN), "{host:?}");
    }
    assert_eq!(refused(&Method::GET, "/?token=0123abcd", &[]), Some(StatusCode::FORBIDDEN));
    for host in ["localhost", "localhost:9000", "127.0.0.1", "[::1]:8080"] {
        let verdict = judge(&Method::GET, "/?token=0123abcd", &[(HOST, host)]);
        assert_eq!(verdict, Verdict::Welcome, "{host}");
    }
}
