use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::routing::any;
use axum::{Json, Router};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::rpc::identity::{Holder, Role};

/// Every route there is, by method, and such as are none: a route that is added stands here too, or is
/// held back from everybody but operators.
const ROUTES: &[(&str, &str, Access)] = &[
    ("GET", "/healthz", Access::Anybody),
    ("HEAD", "/healthz", Access::Anybody),
    ("OPTIONS", "/healthz", Access::Anybody),
    ("GET", "/primary", Access::Reader),
    ("HEAD", "/primary", Access::Reader),
    ("OPTIONS", "/primary", Access::Reader),
    ("GET", "/replica", Access::Reader),
    ("OPTIONS", "/replica", Access::Reader),
    ("OPTIONS", "/v1/order", Access::Operator),
    ("OPTIONS", "/", Access::Operator),
    ("GET", "/metrics", Access::Reader),
    ("GET", "/", Access::Reader),
    ("GET", "/v1/status", Access::Reader),
    ("GET", "/v1/explain", Access::Reader),
    ("GET", "/v1/flows", Access::Reader),
    ("GET", "/v1/history", Access::Reader),
    ("GET", "/v1/events", Access::Reader),
    ("GET", "/v1/store/orders", Access::Reader),
    ("GET", "/v1/trace", Access::Operator),
    ("HEAD", "/v1/trace", Access::Operator),
    ("POST", "/v1/messages", Access::Reader),
    ("PUT", "/v1/messages", Access::Operator),
    ("POST", "/v1/order", Access::Operator),
    ("POST", "/v1/reader", Access::Operator),
    ("POST", "/v1/reload", Access::Operator),
    ("POST", "/v1/director", Access::Operator),
    ("PUT", "/v1/store/orders", Access::Operator),
    ("PUT", "/v1/store/lease", Access::Reader),
    ("PUT", "/v1/store/history", Access::Operator),
    ("GET", "/v1/failover", Access::Reader),
    ("GET", "/v1/failover/history", Access::Reader),
    ("POST", "/v1/failover", Access::Operator),
    ("POST", "/v1/failover/clear", Access::Operator),
    // Another spelling of `orders`.
    ("PUT", "/v1/store/%6frders", Access::Operator),
    ("PUT", "/v1/store//orders", Access::Operator),
    ("PUT", "/v1/store/lease/../orders", Access::Operator),
    ("PUT", "/v1/store/", Access::Operator),
    ("DELETE", "/v1/store/lease", Access::Operator),
    ("POST", "/v1/store/lease", Access::Operator),
    ("POST", "/healthz", Access::Operator),
    ("GET", "/healthz/", Access::Reader),
    ("GET", "//healthz", Access::Reader),
    ("GET", "/%68ealthz", Access::Reader),
    ("GET", "/nothing", Access::Reader),
    ("PATCH", "/nothing", Access::Operator),
    ("BREW", "/", Access::Operator),
];

fn holder(role: Option<Role>, until: SystemTime) -> Caller {
    let (addresses, names) = (Vec::new(), Vec::new());
    Caller::Holder(Holder { name: "x".to_owned(), role, addresses, names, from: until, until })
}

/// What the guard answers; 200 where it lets a request through.
async fn answer(
    method: &str,
    path: &str,
    caller: Option<&Caller>,
    json: bool,
) -> (StatusCode, String) {
    let headers = json.then_some(("content-type", "application/json"));
    answer_to(method, path, caller, headers.as_slice()).await
}

/// The same, with these headers.
async fn answer_to(
    method: &str,
    path: &str,
    caller: Option<&Caller>,
    headers: &[(&str, &str)],
) -> (StatusCode, String) {
    let router = Router::new()
        .fallback(any(async || Json("through")))
        .layer(axum::middleware::from_fn(guard));
    let mut request = hyper::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller.clone());
    }
    let response = TowerToHyperService::new(router).call(request).await.unwrap();
    let code = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn each_may_what_he_may_and_nothing_else() {
    let later = SystemTime::now() + Duration::from_secs(60);
    let before = SystemTime::now() - Duration::from_secs(60);
    let (ok, unauthorized, forbidden) =
        (StatusCode::OK, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN);
    // Who may read, who may steer too, and what others are told.
    let callers = [
        (None, false, false, unauthorized),
        (Some(Caller::Nobody), false, false, unauthorized),
        (Some(Caller::OtherUser), false, false, forbidden),
        (Some(holder(None, later)), false, false, forbidden),
        (Some(holder(Some(Role::Node), later)), true, false, forbidden),
        (Some(holder(Some(Role::Operator), later)), true, true, forbidden),
        (Some(holder(Some(Role::Operator), before)), false, false, forbidden),
        (Some(Caller::Owner("root".to_owned())), true, true, forbidden),
    ];
    for (method, path, access) in ROUTES {
        for (caller, reads, steers, otherwise) in &callers {
            let may = match access {
                Access::Anybody => *caller != Some(Caller::OtherUser),
                Access::Reader => *reads,
                Access::Operator => *steers,
            };
            let expected = if may { ok } else { *otherwise };
            let (code, said) = answer(method, path, caller.as_ref(), true).await;
            assert_eq!(code, expected, "{method} {path} of {caller:?}: {said}");
            assert!(may || !said.contains("through"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let root = Caller::Owner("root".to_owned());
    let (code, said) = answer("POST", "/v1/reload", Some(&root), false).await;
    assert_eq!(code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(said.contains("has Content-Type: application/json"), "{said}");
    assert_eq!(answer("GET", "/v1/status", Some(&root), false).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_body_is_json_by_its_media_type() {
    let root = Caller::Owner("root".to_owned());
    for (kind, expected) in [
        ("application/json", StatusCode::OK),
        ("application/json; charset=utf-8", StatusCode::OK),
        ("Application/JSON;charset=utf-8", StatusCode::OK),
        ("application/jsonx", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("text/plain; application/json", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let headers = [("content-type", kind)];
        let (code, said) = answer_to("POST", "/v1/reload", Some(&root), &headers).await;
        assert_eq!(code, expected, "{kind}: {said}");
    }
}

#[tokio::test]
async fn a_browser_that_asks_for_another_site_gets_nothing() {
    let later = SystemTime::now() + Duration::from_secs(60);
    let ann = holder(Some(Role::Operator), later);
    for (method, path, _) in ROUTES {
        for (sites, expected) in [
            (&["same-origin"][..], StatusCode::OK),
            (&["none"], StatusCode::OK),
            (&["cross-site"], StatusCode::FORBIDDEN),
            (&["same-site"], StatusCode::FORBIDDEN),
            (&["none", "cross-site"], StatusCode::FORBIDDEN),
        ] {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(sites.iter().map(|site| ("sec-fetch-site", *site)));
            let (code, said) = answer_to(method, path, Some(&ann), &headers).await;
            assert_eq!(code, expected, "{method} {path} for {sites:?}: {said}");
            // What answers HEAD has no body.
            let told = *method == "HEAD" || said.contains("of another site");
            assert!(code == StatusCode::OK || told, "{method} {path}: {said}");
        }
    }
}

#[tokio::test]
async fn who_is_refused_learns_why() {
    let later = SystemTime::now() + Duration::from_secs(60);
    let before = SystemTime::now() - Duration::from_secs(60);
    for (caller, sentence) in [
        (Caller::Nobody, "show a certificate of this cluster"),
        (Caller::OtherUser, "only root and the controller's own user"),
        (holder(Some(Role::Node), later), "x is a node, and only operators may do this"),
        (holder(None, later), "is of neither a node nor an operator"),
        (holder(Some(Role::Operator), before), "the certificate of x has expired; renew it"),
    ] {
        let (_, said) = answer("POST", "/v1/order", Some(&caller), true).await;
        assert!(said.contains(sentence), "{said}");
    }
}
