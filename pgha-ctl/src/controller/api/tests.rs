use super::*;

fn refusal(path: &Path) -> String {
    ControlSocket::open(path).unwrap_err().to_string()
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/control.sock");
    let (listener, socket) = ControlSocket::open(&path).unwrap();
    drop(listener);
    std::mem::forget(socket);
    let (_listener, socket) = ControlSocket::open(&path).unwrap();
    assert!(!is_deserted(&path).unwrap());
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_somebody_elses_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link, &folder.path().to_owned()] {
        assert!(refusal(path).contains("is there and no socket, so it stays"), "{path:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let used = folder.path().join("used");
    let listener = UnixListener::bind(&used).unwrap();
    assert!(refusal(&used).starts_with("another process listens on "));
    std::os::unix::net::UnixStream::connect(&used).unwrap();
    drop(listener);
}

/// A controller that refuses whatever it is asked.
fn unwilling() -> mpsc::Sender<Request> {
    let (send, mut requests) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let refusal = Refusal { error: "no".to_owned() };
            if let Request::Health(_, reply) = request {
                reply.send(Err(refusal)).unwrap();
            } else if let Request::Status(reply) = request {
                reply.send(Err(refusal)).unwrap();
            } else if let Request::Flows(_, _, reply) = request {
                reply.send(Err(refusal)).unwrap();
            } else {
                panic!("{request:?}");
            }
        }
    });
    send
}

#[tokio::test]
async fn only_what_the_request_says_is_the_clients_fault() {
    let requests = unwilling();
    let codes = [
        status(State(requests.clone())).await.status(),
        super::metrics(State(requests.clone())).await.status(),
        flows(State(requests), Extension(Turns::default()), RawQuery(None)).await.status(),
    ];
    let internal = StatusCode::INTERNAL_SERVER_ERROR;
    assert_eq!(codes, [internal, internal, StatusCode::UNPROCESSABLE_ENTITY]);
    let (ended, _) = mpsc::channel(1);
    assert_eq!(status(State(ended)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// The whole router, as `caller` finds it, above a controller that answers nothing.
async fn asked(caller: &Caller, method: &str, path: &str, body: &str) -> (StatusCode, String) {
    use hyper::service::Service as _;
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::Slot::new(&folder.path().join("store"));
    let (requests, _) = mpsc::channel(1);
    let router =
        hyper_util::service::TowerToHyperService::new(router(requests, store, Router::new()));
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    request.extensions_mut().insert(caller.clone());
    let response = router.call(request).await.unwrap();
    let code = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn without_a_certificate_there_is_healthz_alone() {
    // Whatever path the router knows or does not know.
    for path in [
        "/",
        "/metrics",
        "/primary",
        "/replica",
        "/v1/status",
        "/v1/order",
        "/v1/reader",
        "/v1/reload",
        "/v1/director",
        "/v1/explain",
        "/v1/flows",
        "/v1/trace",
        "/v1/history",
        "/v1/events",
        "/v1/store/orders",
        "/v1/store/other",
        "/nothing",
        "/v1/../healthz",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let (code, _) = asked(&Caller::Nobody, method, path, "{}").await;
            assert_eq!(code, StatusCode::UNAUTHORIZED, "{method} {path}");
        }
    }
    for method in ["GET", "HEAD", "OPTIONS"] {
        let (code, said) = asked(&Caller::Nobody, method, "/healthz", "").await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let (code, _) = asked(&Caller::Nobody, method, "/healthz", "").await;
        assert_eq!(code, StatusCode::UNAUTHORIZED, "{method}");
    }
}

/// A router above a controller that answers questions about health with yes, and hands on all others.
fn healthy() -> (Router, mpsc::Receiver<Request>) {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::Slot::new(&folder.path().join("store"));
    let (send, mut requests) = mpsc::channel(1);
    let (hand_on, others) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            if let Request::Health(_, reply) = request {
                reply.send(Ok(HealthReply::yes(Vec::new()))).unwrap();
            } else {
                hand_on.send(request).await.unwrap();
            }
        }
    });
    (router(send, store, Router::new()), others)
}

async fn answered(router: &Router, method: &str, path: &str) -> (StatusCode, String) {
    use hyper::service::Service as _;
    let router = hyper_util::service::TowerToHyperService::new(router.clone());
    let mut request =
        hyper::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Caller::Owner("root".to_owned()));
    let response = router.call(request).await.unwrap();
    let code = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn load_balancers_may_ask_for_the_code_alone() {
    let (router, _others) = healthy();
    for path in ["/healthz", "/primary", "/replica", "/replica?lag=16MB", "/primary?node=db1"] {
        let (code, said) = answered(&router, "GET", path).await;
        assert!(code == StatusCode::OK && said.contains("\"healthy\":true"), "{path}: {said}");
        for method in ["HEAD", "OPTIONS"] {
            let (code, said) = answered(&router, method, path).await;
            assert_eq!((code, &*said), (StatusCode::OK, ""), "{method} {path}");
        }
        assert_eq!(answered(&router, "PUT", path).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
    for method in ["HEAD", "OPTIONS"] {
        let (code, said) = answered(&router, method, "/replica?nonsense=1").await;
        assert_eq!((code, &*said), (StatusCode::UNPROCESSABLE_ENTITY, ""), "{method}");
    }
}

#[tokio::test]
async fn flows_are_read_for_a_few_at_a_time() {
    let (router, mut others) = healthy();
    let ask = || {
        let router = router.clone();
        tokio::spawn(async move { answered(&router, "GET", "/v1/flows").await })
    };
    let asking = [ask(), ask(), ask()];
    let (first, second) = (others.recv().await.unwrap(), others.recv().await.unwrap());
    // The third waits, also when one of the others has left while it is worked for.
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    let third = ask();
    let begun = tokio::time::timeout(Duration::from_millis(200), others.recv()).await;
    assert!(begun.is_err() && !third.is_finished(), "{begun:?}");
    drop(first);
    let Some(Request::Flows(_, _, reply)) = others.recv().await else { panic!("no flows") };
    reply.send(Ok(Bytes::from_static(b"{}"))).unwrap();
    assert_eq!(third.await.unwrap(), (StatusCode::OK, "{}".to_owned()));
    drop(second);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_told_so() {
    let root = Caller::Owner("root".to_owned());
    for (path, body, code, said) in [
        ("/v1/order", "{", StatusCode::BAD_REQUEST, "the body of the request cannot be read"),
        ("/v1/order", "{}", StatusCode::UNPROCESSABLE_ENTITY, "missing field `server`"),
        ("/v1/reader", "{\"ad\":1}", StatusCode::UNPROCESSABLE_ENTITY, "unknown variant `ad`"),
        (
            "/v1/director",
            "{\"role\":\"take\",\"now\":true}",
            StatusCode::UNPROCESSABLE_ENTITY,
            "unknown field `now`",
        ),
        (
            "/v1/director",
            "{\"role\":\"takes\"}",
            StatusCode::UNPROCESSABLE_ENTITY,
            "unknown variant `takes`",
        ),
    ] {
        let (found, body) = asked(&root, "POST", path, body).await;
        assert_eq!(found, code, "{path}: {body}");
        assert!(body.starts_with("{\"error\":") && body.contains(said), "{body}");
    }
    let long = format!("{{\"server\":\"{}\"}}", "x".repeat(BODY));
    let (code, _) = asked(&root, "POST", "/v1/order", &long).await;
    assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_loop_that_hangs_is_not_well() {
    // It takes the question and never answers.
    let (requests, mut taken) = mpsc::channel(1);
    let held = tokio::spawn(async move { taken.recv().await });
    let response = healthz(State(requests)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let reply: HealthReply = serde_json::from_slice(&body).unwrap();
    assert_eq!(reply, HealthReply::no("the controller gives no answer within 2 s"));
    drop(held.await);
}

#[tokio::test]
async fn a_key_that_no_question_has_is_refused() {
    let root = Caller::Owner("root".to_owned());
    for path in [
        "/primary?host=db1",
        "/replica?lags=16MB",
        "/v1/explain?client=10.0.0.7:40000&servce=reader",
        "/v1/flows?servr=db2",
        "/v1/trace?cuont=1",
        "/v1/events?sinc=1",
        "/v1/history?sinc=1",
    ] {
        let (code, said) = asked(&root, "GET", path, "").await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {said}");
        assert!(said.contains("unknown field"), "{path}: {said}");
    }
}
