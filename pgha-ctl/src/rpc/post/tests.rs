use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pgha_machine::failover::message::{Message, Report};
use pgha_machine::{Epoch, NodeName};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Post;
use crate::rpc::authority::{self, Authority};
use crate::rpc::client::Address;
use crate::rpc::identity::{Holder, Role};
use crate::rpc::server::{Caller, Keys, serve_tcp};

/// Far beyond what anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn report(epoch: u64) -> Message {
    Message::Report(Report { epoch: Epoch::new(epoch), ..Report::default() })
}

fn issue(tls: &Path, name: &str, role: Role) -> PathBuf {
    let request = authority::Request {
        name: name.parse().unwrap(),
        role,
        addresses: vec!["127.0.0.1".parse().unwrap()],
        names: Vec::new(),
        lifetime: Duration::from_secs(24 * 3600),
    };
    let out = tls.join(name);
    Authority::load(tls, SystemTime::now()).unwrap().issue(&request, &out).unwrap();
    out
}

/// A process with certificates of its own, to which others send.
struct Process {
    post: Post,
    keys: Arc<Keys>,
    task: JoinHandle<()>,
}

impl Process {
    fn begin(tls: &Path, of: &str, on: TcpListener, peers: &[(&str, &str)]) -> Self {
        let own = issue(tls, of, Role::Node);
        let peers: BTreeMap<NodeName, Address> =
            peers.iter().map(|(peer, at)| (name(peer), at.parse().unwrap())).collect();
        let (post, keys) = (Post::new(&peers, &own), Arc::new(Keys::load(&own).unwrap()));
        let task = tokio::spawn(serve_tcp(on, Arc::clone(&keys), post.router()));
        Self { post, keys, task }
    }

    async fn next(&self) -> (NodeName, Message) {
        timeout(LONG, self.post.next()).await.expect("a message")
    }
}

async fn port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    (listener, at)
}

fn authority() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    authority::init(folder.path(), &name("main"), SystemTime::now()).unwrap();
    folder
}

/// Each hears the other under the name in its certificate; who begins anew is found again without a hand.
#[tokio::test]
async fn messages_come_from_whom_the_certificate_names_and_outlive_a_restart() {
    let tls = authority();
    let ((one, one_at), (two, two_at)) = (port().await, port().await);
    let db1 = Process::begin(tls.path(), "db1", one, &[("db2", &two_at)]);
    let db2 = Process::begin(tls.path(), "db2", two, &[("db1", &one_at)]);
    db1.post.send(&name("db2"), report(1));
    db2.post.send(&name("db1"), report(2));
    assert_eq!(db2.next().await, (name("db1"), report(1)));
    assert_eq!(db1.next().await, (name("db2"), report(2)));
    // The connection stays open for the next one.
    db1.post.send(&name("db2"), report(3));
    assert_eq!(db2.next().await, (name("db1"), report(3)));

    db2.task.abort();
    assert!(db2.task.await.unwrap_err().is_cancelled());
    let again = TcpListener::bind(&two_at).await.unwrap();
    let task = tokio::spawn(serve_tcp(again, Arc::clone(&db2.keys), db2.post.router()));
    // What was on its way when the connection ended is lost; whoever means it says it again.
    let heard = async {
        for epoch in 4.. {
            db1.post.send(&name("db2"), report(epoch));
            if let Ok(next) = timeout(Duration::from_millis(100), db2.post.next()).await {
                return (next.0, epoch);
            }
        }
        unreachable!("epochs do not end")
    };
    assert_eq!(timeout(LONG, heard).await.expect("it is heard again").0, name("db1"));
    task.abort();
}

/// A peer that takes nothing holds nothing up, and what it misses is not kept for it.
#[tokio::test]
async fn a_peer_that_is_not_there_costs_nothing() {
    let tls = authority();
    let ((gone, gone_at), (one, _)) = (port().await, port().await);
    drop(gone);
    let db1 = Process::begin(tls.path(), "db1", one, &[("db2", &gone_at)]);
    for epoch in 0..100_000 {
        db1.post.send(&name("db2"), report(epoch));
        db1.post.send(&name("nobody"), report(epoch));
    }
    // It comes, and hears how it is now.
    let two = TcpListener::bind(&gone_at).await.unwrap();
    let db2 = Process::begin(tls.path(), "db2", two, &[("db1", "127.0.0.1:1")]);
    assert_eq!(db2.next().await, (name("db1"), report(99_999)));
}

/// Who answers under another name than the one that is meant is told nothing.
#[tokio::test]
async fn messages_for_one_go_to_no_other() {
    let tls = authority();
    let ((one, _), (other, other_at)) = (port().await, port().await);
    let db3 = Process::begin(tls.path(), "db3", other, &[("db1", "127.0.0.1:1")]);
    let db1 = Process::begin(tls.path(), "db1", one, &[("db2", &other_at), ("db3", &other_at)]);
    for epoch in 0..20 {
        db1.post.send(&name("db2"), report(epoch));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // By then the attempts for db2 had come to the same place.
    db1.post.send(&name("db3"), report(77));
    assert_eq!(db3.next().await, (name("db1"), report(77)));
}

async fn post_as(post: &Post, caller: Caller, body: Vec<u8>) -> StatusCode {
    let router = post.router().layer(Extension(caller));
    let request = Request::post(super::PATH).body(Body::from(body)).unwrap();
    TowerToHyperService::new(router).call(request).await.unwrap().status()
}

fn holder(of: &str, role: Role) -> Holder {
    let day = Duration::from_secs(24 * 3600);
    Holder {
        name: of.to_owned(),
        role: Some(role),
        addresses: Vec::new(),
        names: Vec::new(),
        from: SystemTime::now() - day,
        until: SystemTime::now() + day,
    }
}

/// Only a peer's own certificate, as a node, makes it heard.
#[tokio::test]
async fn nobody_else_is_heard() {
    let tls = authority();
    let own = issue(tls.path(), "db1", Role::Node);
    let peers = [(name("db2"), "127.0.0.1:1".parse().unwrap())].into();
    let post = Post::new(&peers, &own);
    let line = || super::send::line(&report(1)).to_vec();
    let past = SystemTime::now() - Duration::from_secs(1);
    for stranger in [
        Caller::Nobody,
        Caller::OtherUser,
        Caller::Owner("root".to_owned()),
        Caller::Holder(holder("db2", Role::Operator)),
        Caller::Holder(holder("db3", Role::Node)),
        Caller::Holder(Holder { until: past, ..holder("db2", Role::Node) }),
    ] {
        assert_eq!(
            post_as(&post, stranger.clone(), line()).await,
            StatusCode::FORBIDDEN,
            "{stranger:?}"
        );
    }
    let peer = || Caller::Holder(holder("db2", Role::Node));
    assert_eq!(post_as(&post, peer(), line()).await, StatusCode::NO_CONTENT);
    assert_eq!(timeout(LONG, post.next()).await.unwrap(), (name("db2"), report(1)));
}

/// Nothing that a peer sends does more than end its own request.
#[tokio::test]
async fn rubbish_is_left_out() {
    let tls = authority();
    let own = issue(tls.path(), "db1", Role::Node);
    let post = Post::new(&[(name("db2"), "127.0.0.1:1".parse().unwrap())].into(), &own);
    let peer = || Caller::Holder(holder("db2", Role::Node));
    let mut lines =
        b"\n{}\n{\"tomorrow\":{\"new\":1}}\nnull\n\xff\xfe\n{\"report\":{\"epoch\":-1}}\n".to_vec();
    lines.extend_from_slice(&super::send::line(&report(5)));
    assert_eq!(post_as(&post, peer(), lines).await, StatusCode::NO_CONTENT);
    assert_eq!(timeout(LONG, post.next()).await.unwrap(), (name("db2"), report(5)));
    // A nesting that would take all of the stack is refused by the parser, a line without an end here.
    let deep = [vec![b'['; super::LONGEST_LINE - 1], b"\n".to_vec()].concat();
    assert_eq!(post_as(&post, peer(), deep).await, StatusCode::NO_CONTENT);
    let endless = vec![b'x'; super::LONGEST_LINE + 1];
    assert_eq!(post_as(&post, peer(), endless).await, StatusCode::BAD_REQUEST);
}
