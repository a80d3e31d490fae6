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
            if let Request::Status(reply) = request {
                reply.send(Err(refusal)).unwrap();
            } else if let Request::Flows(_, reply) = request {
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
        flows(State(requests), RawQuery(None)).await.status(),
    ];
    let internal = StatusCode::INTERNAL_SERVER_ERROR;
    assert_eq!(codes, [internal, internal, StatusCode::UNPROCESSABLE_ENTITY]);
    let (ended, _) = mpsc::channel(1);
    assert_eq!(status(State(ended)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}
