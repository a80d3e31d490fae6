use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pgha_machine::Epoch;
use pgha_machine::failover::coordinator::{Accepted, Declined};

use super::*;
use crate::store::{Configured, Slot};

/// What the routes answer; `ask` gets what goes to the coordinator.
async fn answer(
    ask: Option<mpsc::Sender<Asked>>,
    (method, path, body): (Method, &str, &str),
) -> (u16, String) {
    let folder = tempfile::tempdir().unwrap();
    let store = Configured::Local(Slot::new(&folder.path().join("store")));
    let service = TowerToHyperService::new(router(ask, Place::of(store)));
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    request.extensions_mut().insert(Caller::Owner("anna".to_owned()));
    let response = service.call(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

/// A coordinator that takes whatever is for db2, and declines the rest.
fn coordinator() -> mpsc::Sender<Asked> {
    let (ask, mut asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(asked) = asked.recv().await {
            match asked {
                Asked::Order(takeover, by, reply) => {
                    assert_eq!(by, "anna");
                    let fit = takeover == Takeover::Force("db2".parse().unwrap());
                    let accepted = Accepted { epoch: Epoch::new(3), freeze: 7 };
                    reply.send(if fit { Ok(accepted) } else { Err(Declined::Unread) }).unwrap();
                }
                Asked::Clear(node, _, reply) => {
                    let known = node.filter(|node| node.as_str() == "db2");
                    reply.send(known.into_iter().collect()).unwrap();
                }
                Asked::Look(_) => {}
            }
        }
    });
    ask
}

#[tokio::test]
async fn who_manages_nobody_says_so() {
    for asked in [(Method::GET, PATH, ""), (Method::POST, PATH, "{}"), (Method::POST, CLEAR, "{}")]
    {
        let (code, said) = answer(None, asked).await;
        assert_eq!(code, 404, "{said}");
        assert!(said.contains("decides about no failover"), "{said}");
    }
    let (code, said) = answer(None, (Method::GET, HISTORY, "")).await;
    assert_eq!((code, said.as_str()), (200, r#"{"format":1,"terms":[],"incidents":[]}"#));
}

#[tokio::test]
async fn an_order_is_the_coordinators_and_loss_has_to_be_named() {
    let order = |body: &'static str| answer(Some(coordinator()), (Method::POST, PATH, body));
    let (code, said) = order(r#"{"to":"db2","accept_data_loss":true}"#).await;
    assert_eq!((code, said.as_str()), (200, r#"{"schema":1,"epoch":3,"freeze":7}"#));
    let (code, said) = order("{}").await;
    assert_eq!(code, 409);
    assert!(said.contains(&Declined::Unread.to_string()), "{said}");
    for (body, code) in
        [(r#"{"accept_data_loss":true}"#, 422), (r#"{"force":"db2"}"#, 422), ("none", 400)]
    {
        assert_eq!(order(body).await.0, code, "{body}");
    }
    let clear = |body: &'static str| answer(Some(coordinator()), (Method::POST, CLEAR, body));
    assert_eq!(
        clear(r#"{"node":"db2"}"#).await,
        (200, r#"{"schema":1,"told":["db2"]}"#.to_owned())
    );
    assert_eq!(clear(r#"{"node":"db9"}"#).await.0, 422);
}

#[tokio::test]
async fn a_coordinator_that_has_ended_is_told() {
    let (ask, asked) = mpsc::channel(1);
    drop(asked);
    let (code, said) = answer(Some(ask), (Method::GET, PATH, "")).await;
    assert_eq!(code, 503, "{said}");
}
