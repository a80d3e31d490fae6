use axum::Extension;
use axum::routing::get;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::rpc::authority::{self, Authority, Request};
use crate::rpc::client::{Address, ConnectError, cause, connect, refusal};

/// A cluster's certificates, and a server that says who asks.
struct Set {
    folder: tempfile::TempDir,
    keys: Arc<Keys>,
    at: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Set {
    async fn up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        authority::init(folder.path(), &"main".parse().unwrap(), SystemTime::now()).unwrap();
        let lb1 = issue(folder.path(), "lb1", Role::Node, "127.0.0.1");
        let keys = Arc::new(Keys::load(&lb1).unwrap());
        let who = get(async |Extension(caller): Extension<Caller>| caller.name().to_owned());
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let at = listener.local_addr().unwrap();
        let router = Router::new().route("/", who);
        let task = tokio::spawn(serve_tcp(listener, Arc::clone(&keys), router));
        Self { folder, keys, at, task }
    }

    fn credentials(&self, name: &str, role: Role) -> Credentials {
        Credentials::load(&issue(self.folder.path(), name, role, "127.0.0.1")).unwrap()
    }

    fn address(&self) -> Address {
        self.at.to_string().parse().unwrap()
    }

    async fn who(&self, credentials: &Credentials) -> Result<String, ConnectError> {
        Ok(ask(connect(&self.address(), credentials).await?).await.unwrap())
    }

    /// A connection that shows no certificate.
    async fn stranger(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let config = rustls::ClientConfig::builder_with_provider(super::super::provider())
            .with_protocol_versions(super::super::VERSIONS)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting))
            .with_no_client_auth();
        let stream = TcpStream::connect(self.at).await?;
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// A client that does not care whom it talks to, as `curl --insecure`.
#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        super::super::provider().signature_verification_algorithms.supported_schemes()
    }
}

fn issue(tls: &Path, name: &str, role: Role, address: &str) -> PathBuf {
    let request = Request {
        name: name.parse().unwrap(),
        role,
        addresses: vec![address.parse().unwrap()],
        names: Vec::new(),
        lifetime: Duration::from_secs(24 * 3600),
    };
    let out = tls.join(name);
    Authority::load(tls, SystemTime::now()).unwrap().issue(&request, &out).unwrap();
    out
}

async fn ask<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
) -> hyper::Result<String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    // The connection has read what there is to read by then.
    let _ = sender.ready().await;
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return Err(cause(connection, error).await),
    };
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn each_side_knows_the_other_by_its_certificate() {
    let set = Set::up().await;
    let (ann, db1) = (set.credentials("ann", Role::Operator), set.credentials("db1", Role::Node));
    assert_eq!(set.who(&ann).await.unwrap(), "ann");
    assert_eq!(set.who(&db1).await.unwrap(), "db1");
    assert_eq!(ask(set.stranger().await.unwrap()).await.unwrap(), "nobody");

    // Of another authority, the client trusts no such server, nor the server such a client.
    let other = Set::up().await;
    let error = other.who(&ann).await.unwrap_err().to_string();
    assert!(error.contains("is not trusted, or does not trust") && error.contains("authority"));

    // By a name that its certificate does not have.
    let address = format!("localhost:{}", set.at.port()).parse().unwrap();
    let error = connect(&address, &ann).await.unwrap_err().to_string();
    assert!(
        error.ends_with("issue its certificate again with --address or --dns for localhost"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_hears_why_its_certificate_is_refused() {
    let set = Set::up().await;
    let lb1 = set.folder.path().join("lb1");
    let ended = SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
    let request = Request {
        name: "old".parse().unwrap(),
        role: Role::Operator,
        addresses: Vec::new(),
        names: Vec::new(),
        lifetime: Duration::from_secs(24 * 3600),
    };
    let expired = set.folder.path().join("old");
    let authority = Authority::load(set.folder.path(), ended).unwrap();
    authority.issue(&request, &expired).unwrap();
    // One of another authority, which trusts this server all the same.
    let other = Set::up().await;
    let foreign = issue(other.folder.path(), "eve", Role::Operator, "127.0.0.1");
    std::fs::copy(lb1.join("ca.crt"), foreign.join("ca.crt")).unwrap();

    for (directory, says) in [(expired, "run: pgha tls renew"), (foreign, "of this cluster's")] {
        for round in 0..20 {
            let credentials = Credentials::load(&directory).unwrap();
            let stream = connect(&set.address(), &credentials).await.unwrap();
            // The alert comes after the request or before it.
            if round % 2 == 0 {
                stream.get_ref().0.readable().await.unwrap();
            }
            let error = ask(stream).await.unwrap_err();
            let refused = refusal(&set.address(), &error).unwrap_or_else(|| panic!("{error:?}"));
            assert!(matches!(refused, ConnectError::Tls { .. }));
            assert!(refused.to_string().contains(says), "{refused}");
        }
    }
}

#[tokio::test]
async fn an_operator_cannot_pass_for_a_server() {
    let set = Set::up().await;
    let ann = issue(set.folder.path(), "ann", Role::Operator, "127.0.0.1");
    let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let keys = Arc::new(Keys::load(&ann).unwrap());
    tokio::spawn(serve_tcp(listener, keys, Router::new()));
    let error = connect(&address, &set.credentials("db1", Role::Node)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn new_files_are_taken_up_and_wrong_ones_are_not() {
    let set = Set::up().await;
    let ann = set.credentials("ann", Role::Operator);
    let lb1 = set.folder.path().join("lb1");
    assert!(!set.keys.refresh().unwrap());
    let before = set.keys.credentials().until();
    let authority = Authority::load(set.folder.path(), SystemTime::now()).unwrap();
    authority.renew(&lb1, Duration::from_secs(9 * 24 * 3600)).unwrap();
    assert!(set.keys.refresh().unwrap());
    assert!(set.keys.credentials().until() > before);
    assert_eq!(set.who(&ann).await.unwrap(), "ann");

    std::fs::write(lb1.join("node.crt"), "nonsense").unwrap();
    assert!(set.keys.refresh().is_err());
    assert_eq!(set.who(&ann).await.unwrap(), "ann");

    // Another authority's files: nobody of the former one is known from here on.
    let other = Set::up().await;
    for file in ["ca.crt", "node.crt", "node.key"] {
        std::fs::copy(other.folder.path().join("lb1").join(file), lb1.join(file)).unwrap();
    }
    assert!(set.keys.refresh().unwrap());
    assert!(set.who(&ann).await.is_err());
    assert_eq!(set.who(&other.credentials("ann", Role::Operator)).await.unwrap(), "ann");
}

#[tokio::test]
async fn the_slow_and_the_many_keep_nobody_out() {
    let set = Set::up().await;
    let ann = set.credentials("ann", Role::Operator);
    let deadline = HANDSHAKE * 10;
    // More than one source has places for, all silent: each gives way to the next, at once.
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES.1 * 2 {
        silent.push(TcpStream::connect(set.at).await.unwrap());
    }
    assert_eq!(set.who(&ann).await.unwrap(), "ann");
    for mut stream in silent {
        let ended = tokio::time::timeout(deadline, stream.read(&mut [0])).await.unwrap();
        assert_eq!(ended.unwrap_or(0), 0);
    }

    // All places of a source without certificates taken, by such as ask nothing: known ones have places of their
    // own, and who comes next takes the oldest's.
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS.1 {
        strangers.push(set.stranger().await.unwrap());
    }
    assert_eq!(set.who(&ann).await.unwrap(), "ann");
    assert_eq!(ask(set.stranger().await.unwrap()).await.unwrap(), "nobody");
    // And the others are gone in time, even though they have said nothing.
    for mut stranger in strangers {
        let ended = tokio::time::timeout(deadline, stranger.read(&mut [0])).await.unwrap();
        assert_eq!(ended.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn who_is_numerous_is_told_and_keeps_nobody_else_out() {
    let set = Set::up().await;
    let (ann, db1) = (set.credentials("ann", Role::Operator), set.credentials("db1", Role::Node));
    let mut held = Vec::new();
    for _ in 0..KNOWN.1 {
        let mut stream = connect(&set.address(), &db1).await.unwrap();
        // Answered, and then kept open.
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    let said = set.who(&db1).await.unwrap();
    assert!(said.contains("db1 has 64 connections open already"), "{said}");
    assert_eq!(set.who(&ann).await.unwrap(), "ann");
    held.truncate(KNOWN.1 / 2);
    let begin = std::time::Instant::now();
    while set.who(&db1).await.unwrap() != "db1" {
        assert!(begin.elapsed() < Duration::from_secs(60), "no place is free again");
    }
}

#[tokio::test]
async fn connections_end_with_the_server() {
    let set = Set::up().await;
    let mut stream = connect(&set.address(), &set.credentials("db1", Role::Node)).await.unwrap();
    set.task.abort();
    let ended = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut [0])).await;
    assert_eq!(ended.expect("an end").unwrap_or(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_flood_of_silent_connections_keeps_nobody_out() {
    let set = Set::up().await;
    let ann = set.credentials("ann", Role::Operator);
    let at = set.at;
    let (opened, mut flood) = tokio::sync::watch::channel(0_usize);
    // Of eight sources, without an end, more at once than there are places.
    let flooding = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        for number in 0_usize.. {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            let from = [127, 0, 1, u8::try_from(number % 8).unwrap() + 1];
            socket.bind((from, 0).into()).unwrap();
            held.push_back(socket.connect(at).await);
            if held.len() > HANDSHAKES.0 + HANDSHAKES.1 {
                held.pop_front();
            }
            let _ = opened.send(number);
        }
    });
    for round in 1..=20 {
        flood.wait_for(|opened| *opened > round * HANDSHAKES.0).await.unwrap();
        assert_eq!(set.who(&ann).await.unwrap(), "ann", "round {round}");
    }
    assert!(!flooding.is_finished());
    flooding.abort();
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_in_one_sentence() {
    let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let said = listen(at).await.unwrap_err().to_string();
    assert!(said.starts_with(&format!("[api] listen: {at} cannot be listened on (")), "{said}");
    assert!(said.ends_with("; stop whoever has that port, or choose another"), "{said}");
}

#[test]
fn what_a_caller_may_ends_with_the_certificate() {
    let now = SystemTime::now();
    let holder = |role, until| {
        let (name, addresses, names) = ("x".to_owned(), Vec::new(), Vec::new());
        Caller::Holder(Holder { name, role, addresses, names, from: now, until })
    };
    let (later, before) = (now + Duration::from_secs(1), now - Duration::from_secs(1));
    let cases = [
        (Caller::Nobody, false, false),
        (Caller::OtherUser, false, false),
        (Caller::Owner("root".to_owned()), true, true),
        (holder(Some(Role::Operator), later), true, true),
        (holder(Some(Role::Node), later), true, false),
        (holder(None, later), false, false),
        (holder(Some(Role::Operator), before), false, false),
        (holder(Some(Role::Node), before), false, false),
    ];
    for (caller, reads, steers) in cases {
        assert_eq!((caller.reads(now), caller.steers(now)), (reads, steers), "{caller:?}");
    }
}
