//! The client, against gateways that do as they are told.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex as Lock, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, future, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::config::{Config, StorePlace};

/// What a gateway does with a request.
#[derive(Clone, Debug)]
enum Reply {
    Says(u16, Value),
    /// It begins an answer and breaks it off.
    BreaksOff,
    /// It says this, line by line, and then no more.
    Tells(Vec<Value>),
    Silence,
}

/// A request as it came: path, body, who asked.
type Asked = (String, Value, Option<String>);

#[derive(Clone, Debug, Default)]
struct Gateway {
    replies: Arc<Lock<VecDeque<Reply>>>,
    asked: Arc<Lock<Vec<Asked>>>,
}

impl Gateway {
    /// Starts one that gives these replies, one for each request, and says where it is.
    async fn start(replies: impl IntoIterator<Item = Reply>) -> (Self, String) {
        let gateway = Self::default();
        gateway.then(replies);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (gateway, at)
    }

    fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).extend(replies);
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|(path, ..)| path).collect()
    }
}

async fn answer(State(gateway): State<Gateway>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let token = request.headers().get(header::AUTHORIZATION);
    let token = token.map(|token| token.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let asked = (path, serde_json::from_slice(&body).unwrap(), token);
    gateway.asked.lock().unwrap().push(asked);
    let reply = gateway.replies.lock().unwrap().pop_front().expect("a reply for each request");
    match reply {
        Reply::Says(code, value) => {
            (StatusCode::from_u16(code).unwrap(), value.to_string()).into_response()
        }
        Reply::BreaksOff => {
            let broken = stream::iter([Ok("{"), Err(std::io::Error::other("broken off"))]);
            Body::from_stream(broken).into_response()
        }
        Reply::Tells(lines) => {
            let lines = lines.into_iter().map(|line| Ok::<_, std::io::Error>(format!("{line}\n")));
            Body::from_stream(stream::iter(lines).chain(stream::pending())).into_response()
        }
        Reply::Silence => future::pending().await,
    }
}

const CLUSTER: u64 = 7;

/// The incarnation of every store here, of that cluster of etcd.
fn incarnation(cluster: u64) -> [u8; 16] {
    let mut bytes = [9; 16];
    bytes[..8].copy_from_slice(&cluster.to_be_bytes());
    bytes
}

fn coded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn header(cluster: u64, revision: u64) -> Value {
    json!({ "cluster_id": cluster.to_string(), "revision": revision.to_string() })
}

/// The record, as it was put with that change, in a store of that many changes.
fn holds(revision: u64, of: u64) -> Reply {
    holds_in(CLUSTER, revision, of)
}

fn holds_in(cluster: u64, revision: u64, of: u64) -> Reply {
    let found = |revision: u64, value: &[u8]| {
        let kv = json!({ "mod_revision": revision.to_string(), "value": coded(value) });
        json!({ "response_range": { "kvs": [kv] } })
    };
    let responses = [found(2, &incarnation(cluster)), found(revision, b"v")];
    Reply::Says(200, json!({ "header": header(cluster, of), "responses": responses }))
}

/// Nothing at all is there, in that cluster of etcd.
fn empty(cluster: u64) -> Reply {
    let nothing = json!({ "response_range": {} });
    Reply::Says(200, json!({ "header": header(cluster, 1), "responses": [nothing, nothing] }))
}

fn put(revision: u64) -> Reply {
    Reply::Says(200, json!({ "header": header(CLUSTER, revision), "succeeded": true }))
}

fn refuses(http: u16, code: u32) -> Reply {
    Reply::Says(http, json!({ "message": "no", "code": code }))
}

fn mark(revision: u64) -> Mark {
    Mark { incarnation: Incarnation::from_bytes(incarnation(CLUSTER)), revision }
}

fn key() -> Key {
    "a".parse().unwrap()
}

/// A client of these members, and the folder of what it remembers.
fn client(endpoints: &[&str], more: &str) -> (Etcd, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let etcd = client_in(folder.path(), endpoints, more);
    (etcd, folder)
}

fn client_in(folder: &Path, endpoints: &[&str], more: &str) -> Etcd {
    let text = format!(
        "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[primary]\nhosts = [\"10.0.0.11\"]\n\
         [[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\n\
         [store]\nkind = \"etcd\"\nendpoints = {endpoints:?}\npath = {:?}\n{more}\n",
        folder.join("seen")
    );
    let config = Config::parse(&text, Path::new("test")).unwrap();
    let StorePlace::Etcd(settings) = config.store() else { panic!("no etcd") };
    Etcd::new(settings, config.cluster())
}

/// Somewhere nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_and_never_sent_again() {
    for lost in [Reply::BreaksOff, Reply::Silence, refuses(503, 14), refuses(500, 13)] {
        let (one, first) = Gateway::start([lost.clone()]).await;
        let (other, second) = Gateway::start([]).await;
        let (store, _folder) = client(&[&first, &second], "timeout = \"300ms\"");
        let answer = store.cas(&key(), mark(5), b"x".into()).await;
        assert!(matches!(answer, Err(CasError::Unknown(_))), "{lost:?}: {answer:?}");
        assert_eq!((one.paths(), other.paths()), (vec![wire::TXN.to_owned()], vec![]));
        // What became of it is asked of another member.
        other.then([holds(5, 9)]);
        assert_eq!(store.get(&key()).await.unwrap().mark, mark(5));
    }
}

#[tokio::test]
async fn a_write_that_is_turned_down_was_not_made() {
    for code in [3, 7, 8, 9, 11, 12, 16] {
        let (gateway, at) = Gateway::start([refuses(400, code)]).await;
        let (store, _folder) = client(&[&at], "");
        let answer = store.cas(&key(), mark(5), b"x".into()).await;
        assert!(matches!(answer, Err(CasError::Failed(_))), "{code}: {answer:?}");
        assert_eq!(gateway.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_write_that_never_left_goes_to_the_next_member() {
    let (gateway, at) = Gateway::start([put(6)]).await;
    let (store, _folder) = client(&[&nowhere().await, &at], "");
    assert_eq!(store.cas(&key(), mark(5), b"x".into()).await.unwrap(), mark(6));
    assert_eq!(gateway.asked().len(), 1);
}

#[tokio::test]
async fn a_read_is_asked_of_the_next_member_and_never_of_a_stale_one() {
    for lost in [Reply::BreaksOff, Reply::Silence, refuses(503, 14)] {
        let (one, first) = Gateway::start([lost]).await;
        let (other, second) = Gateway::start([holds(5, 9), holds(5, 9)]).await;
        let (store, _folder) = client(&[&first, &second], "timeout = \"300ms\"");
        for _ in 0..2 {
            assert_eq!(store.get(&key()).await.unwrap().mark, mark(5));
        }
        // Who answered last is asked first.
        assert_eq!((one.asked().len(), other.asked().len()), (1, 2));
        for (_, body, _) in other.asked() {
            assert!(!body.to_string().contains("serializable"), "{body}");
        }
    }
}

#[tokio::test]
async fn without_a_member_it_is_told_why() {
    let (store, _folder) = client(&[&nowhere().await], "");
    let said = store.get(&key()).await.unwrap_err().to_string();
    assert!(said.contains("see that etcd runs there"), "{said}");
    // It asks on for a while, as another member may have a gateway.
    let no_gateway = std::iter::repeat_n(Reply::Says(404, json!("404 page not found")), 1000);
    let (_, at) = Gateway::start(no_gateway).await;
    let (store, _folder) = client(&[&at], "");
    let refused = store.cas(&key(), mark(5), b"x".into()).await;
    let Err(CasError::Failed(error)) = refused else { panic!("{refused:?}") };
    assert!(
        error.to_string().contains("with its JSON gateway (--enable-grpc-gateway)?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_conflict_says_what_is_there() {
    let (_, at) = Gateway::start([holds(8, 9)]).await;
    let (store, _folder) = client(&[&at], "");
    let refused = store.cas(&key(), mark(5), b"x".into()).await;
    assert!(matches!(refused, Err(CasError::Conflict(found)) if found == mark(8)), "{refused:?}");
}

#[tokio::test]
async fn an_answer_of_the_past_is_refused_also_after_a_restart() {
    let (gateway, at) = Gateway::start([holds(5, 9), holds(5, 8), put(9)]).await;
    let (store, folder) = client(&[&at], "");
    store.get(&key()).await.unwrap();
    let said = store.get(&key()).await.unwrap_err().to_string();
    assert!(said.contains("is at revision 8, and was at 9 before"), "{said}");
    // What it has written there meanwhile may be lost again.
    let answer = store.cas(&key(), mark(5), b"x".into()).await;
    assert_eq!(answer.unwrap(), mark(9));
    gateway.then([holds(9, 12)]);
    store.tend().await.unwrap();
    gateway.then([holds(9, 11)]);
    let next = client_in(folder.path(), &[&at], "");
    assert!(next.get(&key()).await.unwrap_err().to_string().contains("was at 12 before"));
}

#[tokio::test]
async fn members_of_two_clusters_are_not_mixed() {
    let (_, first) = Gateway::start([holds(5, 9), Reply::BreaksOff, holds(6, 10)]).await;
    let (other, second) = Gateway::start([holds_in(8, 5, 20), holds_in(8, 5, 20)]).await;
    let (store, _folder) = client(&[&first, &second], "");
    store.get(&key()).await.unwrap();
    // The wrong one is passed over, for reads and for writes that it does not take.
    assert_eq!(store.get(&key()).await.unwrap().mark, mark(6));
    assert_eq!(other.asked().len(), 1);

    let (_, at) = Gateway::start([holds(5, 9), holds_in(8, 5, 20)]).await;
    let (store, _folder) = client(&[&at], "");
    store.get(&key()).await.unwrap();
    let said = store.get(&key()).await.unwrap_err().to_string();
    assert!(
        said.contains("is a member of cluster 0000000000000008, and this process began with"),
        "{said}"
    );
}

#[tokio::test]
async fn a_write_that_a_wrong_member_does_not_take_goes_to_the_next() {
    let (_, first) = Gateway::start([holds(5, 9), Reply::BreaksOff, put(10)]).await;
    let (_, second) = Gateway::start([holds(5, 9), holds_in(8, 5, 20)]).await;
    let (store, _folder) = client(&[&first, &second], "");
    for _ in 0..2 {
        store.get(&key()).await.unwrap();
    }
    assert_eq!(store.cas(&key(), mark(5), b"x".into()).await.unwrap(), mark(10));
}

#[tokio::test]
async fn a_store_is_made_where_most_endpoints_are() {
    let (wrong, first) = Gateway::start([empty(8), empty(8), empty(8)]).await;
    let replies = [empty(CLUSTER), empty(CLUSTER), put(2), holds(5, 9)];
    let (right, second) = Gateway::start(replies).await;
    let (_, third) = Gateway::start([empty(CLUSTER)]).await;
    let (store, _folder) = client(&[&first, &second, &third], "");
    assert_eq!(store.get(&key()).await.unwrap().mark, mark(5));
    let puts = |of: &Gateway| {
        of.asked().iter().filter(|(_, b, _)| b["success"][0]["requestPut"].is_object()).count()
    };
    assert_eq!((puts(&wrong), puts(&right)), (0, 1));

    let (wrong, first) = Gateway::start([empty(8), empty(8)]).await;
    let (right, second) = Gateway::start([empty(CLUSTER)]).await;
    let (store, _folder) = client(&[&first, &second], "");
    let said = store.get(&key()).await.unwrap_err().to_string();
    assert!(said.starts_with("there is no store yet, and 1 of 2 endpoints"), "{said}");
    assert_eq!((puts(&wrong), puts(&right)), (0, 0));
}

#[tokio::test]
async fn tending_finds_that_nothing_could_be_written() {
    let (gateway, at) = Gateway::start([holds(5, 9)]).await;
    let (store, _folder) = client(&[&at], "");
    store.tend().await.unwrap();
    let (_, body, _) = &gateway.asked()[0];
    assert_eq!(body["success"][0]["requestPut"]["key"], coded(b"/pgha/main/.tend"));
    assert_eq!(body["compare"][0]["modRevision"], i64::MAX.to_string());
    let no_space = json!({ "message": "etcdserver: mvcc: database space exceeded", "code": 8 });
    gateway.then([Reply::Says(429, no_space)]);
    let full = store.tend().await;
    assert!(matches!(full, Err(StoreError::Etcd(EtcdError::Full { .. }))), "{full:?}");
    // Code 8 alone is not that.
    gateway.then([refuses(403, 7), refuses(429, 8)]);
    for _ in 0..2 {
        let refused = store.tend().await;
        assert!(matches!(refused, Err(StoreError::Etcd(EtcdError::Refused { .. }))), "{refused:?}");
    }
}

#[tokio::test]
async fn an_empty_store_is_made_one_and_so_is_one_restored_elsewhere() {
    let replies = [empty(CLUSTER), empty(CLUSTER), put(2), holds(5, 9)];
    let (gateway, at) = Gateway::start(replies).await;
    let (store, _folder) = client(&[&at], "");
    assert_eq!(store.get(&key()).await.unwrap().mark, mark(5));
    let (_, made, _) = &gateway.asked()[2];
    assert_eq!(made["compare"][0]["modRevision"], "0", "{made}");

    // Its incarnation is of another cluster of etcd.
    let Reply::Says(_, mut elsewhere) = holds_in(8, 5, 9) else { panic!("no answer") };
    elsewhere["header"] = header(CLUSTER, 9);
    let elsewhere = Reply::Says(200, elsewhere);
    let replies = [elsewhere.clone(), elsewhere, put(10), holds(5, 10)];
    let (gateway, at) = Gateway::start(replies).await;
    let (store, _folder) = client(&[&at], "");
    assert_eq!(store.get(&key()).await.unwrap().mark, mark(5));
    let (_, made, _) = &gateway.asked()[2];
    assert_eq!(made["compare"][0]["modRevision"], "2", "{made}");
}

#[tokio::test]
async fn a_token_that_has_expired_is_replaced_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let token = |token: &str| Reply::Says(200, json!({ "token": token }));
    let replies = [token("one"), holds(5, 9), refuses(401, 16), token("two"), holds(5, 9)];
    let (gateway, at) = Gateway::start(replies).await;
    let more = format!("user = \"pgha\"\npassword_file = {password:?}");
    let store = client_in(folder.path(), &[&at], &more);
    for _ in 0..2 {
        store.get(&key()).await.unwrap();
    }
    let tokens: Vec<_> = gateway.asked().into_iter().map(|(.., token)| token).collect();
    let [one, two] = ["one", "two"].map(|token| Some(token.to_owned()));
    assert_eq!(tokens, [None, one.clone(), one, None, two]);
    let (_, login, _) = &gateway.asked()[0];
    assert_eq!(*login, json!({ "name": "pgha", "password": "secret" }));
    // A second refusal stands.
    gateway.then([refuses(401, 16), token("three"), refuses(401, 16)]);
    assert!(store.get(&key()).await.is_err());
}

#[tokio::test]
async fn a_watcher_reads_again_whatever_ends_its_watch() {
    let created = json!({ "result": { "header": header(CLUSTER, 9), "created": true } });
    let compacted = json!({ "result": { "header": header(CLUSTER, 9), "canceled": true, "compact_revision": "8" } });
    let event = json!({ "result": { "header": header(CLUSTER, 10), "events": [{ "kv": {} }] } });
    let huge =
        json!({ "result": { "header": header(CLUSTER, 10), "events": ["x".repeat(100_000)] } });
    for ended in [
        Reply::Tells(vec![created.clone(), compacted]),
        Reply::Tells(vec![created.clone(), event]),
        Reply::Tells(vec![huge]),
        // It says nothing, and the member knows nothing: the backstop.
        Reply::Tells(vec![created]),
        Reply::BreaksOff,
        refuses(503, 14),
    ] {
        let (gateway, at) = Gateway::start([holds(5, 9), ended, holds(10, 10)]).await;
        let (store, _folder) = client(&[&at], "");
        let reading = store.watch(&key(), mark(5)).await.unwrap();
        assert_eq!(reading.mark, mark(10));
        let (path, body, _) = &gateway.asked()[1];
        assert_eq!(path, wire::WATCH);
        // From behind what was read, so that nothing falls between.
        assert_eq!(body["create_request"]["start_revision"], "10");
    }
}

#[tokio::test]
async fn a_watch_that_cannot_be_had_is_not_tried_all_the_time() {
    // It says that there is no such thing, and ends at once.
    let refused =
        json!({ "error": { "grpc_code": 7, "message": "etcdserver: permission denied" } });
    let canceled = json!({ "result": { "canceled": true } });
    for ended in [
        Reply::Says(404, json!("404 page not found")),
        Reply::Says(200, json!("")),
        Reply::Tells(vec![refused]),
        Reply::Tells(vec![canceled]),
    ] {
        let rounds = std::iter::repeat_with(|| [holds(5, 9), ended.clone()]).take(1000).flatten();
        let (gateway, at) = Gateway::start(rounds).await;
        let (store, _folder) = client(&[&at], "");
        let (key, time) = (key(), PAUSE * 10);
        let waited = tokio::time::timeout(time, store.watch(&key, mark(5))).await;
        assert!(waited.is_err(), "{waited:?}");
        let asked = gateway.asked().len();
        // After 50, 100 and 200 ms, the next pause is longer than what is left.
        assert!(asked <= 8, "{asked} requests in {time:?}");
    }
}

#[tokio::test]
async fn what_is_too_long_never_leaves() {
    let (store, _folder) = client(&[&nowhere().await], "");
    let refused = store.cas(&key(), mark(5), vec![0; MAX_VALUE + 1]).await;
    assert!(
        matches!(refused, Err(CasError::Failed(StoreError::Etcd(EtcdError::TooLong(_))))),
        "{refused:?}"
    );
}
