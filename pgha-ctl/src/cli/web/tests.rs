use axum::http::HeaderValue;

use super::*;

fn forwarder() -> Forwarder {
    Forwarder {
        controller: Controller::Here("/nowhere".into()),
        token: "0123abcd".to_owned(),
        path: "/4567".to_owned(),
        cookie: "pgha-8080".to_owned(),
    }
}

/// A verdict in words.
fn judge(method: &Method, uri: &str, headers: &[(HeaderName, &str)]) -> String {
    let headers =
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
    let uri: Uri = uri.parse().unwrap();
    match forwarder().judge(method, &uri, &headers.collect()) {
        Verdict::Forward(path) => format!("forward {path}"),
        Verdict::Welcome => "welcome".to_owned(),
        Verdict::Refuse(code, _) => code.as_str().to_owned(),
    }
}

const HERE: (HeaderName, &str) = (HOST, "127.0.0.1:8080");
const KNOWN: (HeaderName, &str) = (COOKIE, "theme=dark; pgha-8080=0123abcd");

#[test]
fn the_token_opens_the_page_and_the_cookie_keeps_it_open() {
    assert_eq!(judge(&Method::GET, "/?token=0123abcd", &[HERE]), "welcome");
    for path in FORWARDED {
        let verdict = judge(&Method::GET, &format!("/4567{path}?since=7"), &[HERE, KNOWN]);
        assert_eq!(verdict, format!("forward {path}"));
    }
}

#[test]
fn nothing_is_read_without_the_token() {
    for uri in
        ["/", "/?token=", "/?token=0123abc", "/?token=0123abcde", "/4567/v1/status?token=0123abcd"]
    {
        assert_eq!(judge(&Method::GET, uri, &[HERE]), "403", "{uri}");
    }
    for cookie in ["pgha-8080=0123abce", "pgha-8081=0123abcd", "pgha-8080", "xpgha-8080=0123abcd"] {
        let headers = [HERE, (COOKIE, cookie)];
        assert_eq!(judge(&Method::GET, "/4567/", &headers), "403", "{cookie}");
    }
}

#[test]
fn nothing_but_reading_what_the_page_shows_is_forwarded() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let code = judge(&method, "/4567/v1/status", &[HERE, KNOWN]);
        assert_eq!(code, "405", "{method}");
    }
    for path in
        ["/v1/order", "/v1/flows", "/v1/trace", "/metrics", "/v1/status/", "//v1/status", ""]
    {
        let code = judge(&Method::GET, &format!("/4567{path}"), &[HERE, KNOWN]);
        assert_eq!(code, "404", "{path}");
    }
    // The page is below its own path only, where other ports' cookies are not.
    assert_eq!(judge(&Method::GET, "/v1/status", &[HERE, KNOWN]), "404");
}

#[test]
fn another_name_for_this_machine_is_turned_away() {
    for host in ["evil.example", "evil.example:8080", "10.0.0.7:8080", "localhost.evil.example", ""]
    {
        assert_eq!(judge(&Method::GET, "/?token=0123abcd", &[(HOST, host)]), "403", "{host:?}");
    }
    assert_eq!(judge(&Method::GET, "/?token=0123abcd", &[]), "403");
    for host in ["localhost", "localhost:9000", "127.0.0.1", "[::1]:8080"] {
        let verdict = judge(&Method::GET, "/?token=0123abcd", &[(HOST, host)]);
        assert_eq!(verdict, "welcome", "{host}");
    }
}
