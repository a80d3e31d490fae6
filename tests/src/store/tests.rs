use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pgha_ctl::rpc::authority::{self, Authority, Request};
use pgha_ctl::rpc::client::Address;
use pgha_ctl::rpc::identity::Role;
use pgha_ctl::rpc::server::{Keys, listen, serve_tcp};
use pgha_ctl::store::{
    CasError, Key, Local, LocalError, MAX_VALUE, Mark, Reading, Remote, RemoteError, Store,
    StoreError, change, http,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Harness, conformance};

/// Opens a store that was closed a moment ago: what still runs of it, or the child of another test's fork,
/// holds its lock a little longer.
fn open(path: &Path) -> Local {
    let begin = Instant::now();
    loop {
        match Local::open(path) {
            Err(LocalError::InUse { .. }) if begin.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened.expect("a store"),
        }
    }
}

/// The file, opened anew for each restart.
struct File {
    folder: TempDir,
    store: Option<Local>,
}

impl File {
    fn path(folder: &TempDir) -> PathBuf {
        folder.path().join("main.store")
    }

    async fn make() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let store = Some(open(&Self::path(&folder)));
        Self { folder, store }
    }
}

impl Harness for File {
    type Store = Local;

    async fn client(&self) -> Local {
        self.store.clone().expect("an open store")
    }

    /// A process that ends leaves what is on disk, and no more.
    async fn restart(&mut self) {
        let crashed = tempfile::tempdir().expect("a directory");
        let (from, to) = (Self::path(&self.folder), Self::path(&crashed));
        let lock = |path: &Path| path.with_added_extension("lock");
        std::fs::copy(&from, &to).expect("a copy");
        std::fs::copy(lock(&from), lock(&to)).expect("a copy");
        self.store = Some(open(&Self::path(&crashed)));
        self.folder = crashed;
    }

    /// Who watches a file is the process that ends.
    fn watchers_outlive_restarts(&self) -> bool {
        false
    }

    async fn replace(&mut self) {
        *self = Self::make().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_a_store() {
    conformance::all(File::make).await;
}

/// A file behind a server with TLS, and clients that know it by its address alone.
struct Server<S> {
    tls: TempDir,
    at: SocketAddr,
    file: File,
    task: JoinHandle<()>,
    wrap: fn(Local) -> S,
}

/// An authority, and certificates of nodes that it made.
fn certify(tls: &Path, names: &[&str]) {
    let now = SystemTime::now();
    authority::init(tls, &"main".parse().expect("a name"), now).expect("an authority");
    let authority = Authority::load(tls, now).expect("an authority");
    for name in names {
        let request = Request {
            name: name.parse().expect("a name"),
            role: Role::Node,
            addresses: vec!["127.0.0.1".parse().expect("an address")],
            names: Vec::new(),
            lifetime: Duration::from_secs(3600),
        };
        authority.issue(&request, &tls.join(name)).expect("a certificate");
    }
}

async fn serve<S: Store + Clone>(listener: TcpListener, tls: &Path, store: S) -> JoinHandle<()> {
    let keys = Arc::new(Keys::load(&tls.join("lb1")).expect("keys"));
    tokio::spawn(serve_tcp(listener, keys, http::router(store)))
}

impl<S: Store + Clone> Server<S> {
    async fn make(wrap: fn(Local) -> S) -> Self {
        let tls = tempfile::tempdir().expect("a directory");
        certify(tls.path(), &["lb1", "db1"]);
        let file = File::make().await;
        let listener = listen(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let task = serve(listener, tls.path(), wrap(file.client().await)).await;
        Self { tls, at, file, task, wrap }
    }

    /// Ends the server and its listener, and begins another on the same port.
    async fn again(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        let begin = Instant::now();
        let listener = loop {
            match listen(self.at).await {
                Ok(listener) => break listener,
                Err(error) if begin.elapsed() > Duration::from_secs(60) => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let store = (self.wrap)(self.file.client().await);
        self.task = serve(listener, self.tls.path(), store).await;
    }
}

impl<S: Store + Clone> Harness for Server<S> {
    type Store = Remote;

    async fn client(&self) -> Remote {
        let at: Address = self.at.to_string().parse().expect("an address");
        Remote::new(at, &self.tls.path().join("db1"))
    }

    async fn restart(&mut self) {
        self.file.restart().await;
        self.again().await;
    }

    async fn replace(&mut self) {
        self.file.replace().await;
        self.again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controllers_store_over_tls_is_a_store() {
    conformance::all(async || Server::make(|store| store).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_does_not_take_is_told_by_a_code_of_its_own() {
    let server = Server::make(|store| store).await;
    let store = server.client().await;
    let first = store.get(&"a".parse().unwrap()).await.unwrap().mark;
    let put = async |number: usize, length: usize| {
        let key = format!("key-{number}").parse().unwrap();
        store.cas(&key, first, vec![0; length]).await
    };
    let code = |refused: Result<Mark, CasError>| match refused {
        Err(CasError::Failed(StoreError::Remote(RemoteError::Refused { code, .. }))) => {
            code.as_u16()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(code(put(0, MAX_VALUE + 1).await), 413);
    // Until 16 MiB are full: the keys take the place of the last value.
    for number in 0..15 {
        put(number, MAX_VALUE).await.unwrap();
    }
    assert_eq!(code(put(15, MAX_VALUE).await), 507);
    put(15, 1).await.unwrap();
}

/// A store that carries writes out, or does not, and every second time says that it does not know.
#[derive(Clone)]
struct Forgetful {
    store: Local,
    calls: Arc<std::sync::atomic::AtomicUsize>,
}

impl Forgetful {
    fn new(store: Local) -> Self {
        Self { store, calls: Arc::default() }
    }
}

impl Store for Forgetful {
    async fn get(&self, key: &Key) -> Result<Reading, StoreError> {
        self.store.get(key).await
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        let lost = || CasError::Unknown(LocalError::Ending.into());
        match self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 4 {
            // Carried out, and the answer lost.
            0 => {
                self.store.cas(key, expected, value).await?;
                Err(lost())
            }
            // Lost on the way there.
            2 => Err(lost()),
            _ => self.store.cas(key, expected, value).await,
        }
    }

    async fn watch(&self, key: &Key, seen: Mark) -> Result<Reading, StoreError> {
        self.store.watch(key, seen).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_read_back() {
    let key: Key = "a".parse().unwrap();
    let file = File::make().await;
    let far = Server::make(Forgetful::new).await;
    // Over the network too: 504 is no refusal.
    check_changes(&Forgetful::new(file.client().await), &key).await;
    check_changes(&far.client().await, &key).await;
}

/// Each of these changes is made exactly once, whatever became of its answers.
async fn check_changes(store: &(impl Store + Clone), key: &Key) {
    const CHANGES: u8 = 20;
    for number in 0..CHANGES {
        let changed = change(store, key, |found| {
            let mut all = found.value.clone().unwrap_or_default();
            // The change names itself, so that it is seen to have been made already.
            if !all.contains(&number) {
                all.push(number);
            }
            Ok::<_, std::fmt::Error>(all)
        });
        changed.await.unwrap();
    }
    let all = store.get(key).await.unwrap().value.unwrap();
    assert_eq!(all, (0..CHANGES).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_and_nothing_is_claimed() {
    let server = Server::make(|store| store).await;
    let (client, key) = (server.client().await, "a".parse().unwrap());
    let mark = client.get(&key).await.unwrap().mark;
    server.task.abort();
    let begin = Instant::now();
    // It ends a moment later; a new client finds nobody.
    let stranger = server.client().await;
    let error = loop {
        match stranger.get(&key).await {
            Err(error) => break error.to_string(),
            Ok(_) if begin.elapsed() > Duration::from_secs(60) => panic!("it still answers"),
            Ok(_) => {}
        }
    };
    assert!(error.contains("see that a controller runs there, with [api] listen"), "{error}");
    let refused = server.client().await.cas(&key, mark, b"x".into()).await.unwrap_err();
    assert!(matches!(refused, CasError::Failed(_)), "{refused:?}");
}

#[tokio::test]
async fn who_is_not_trusted_hears_it_and_has_written_nothing() {
    let server = Server::make(|store| store).await;
    let (client, key) = (server.client().await, "a".parse().unwrap());
    let mark = client.get(&key).await.unwrap().mark;
    // Of another authority, and it trusts this one's all the same.
    let other = tempfile::tempdir().unwrap();
    certify(other.path(), &["db1"]);
    let db1 = other.path().join("db1");
    std::fs::copy(server.tls.path().join("ca.crt"), db1.join("ca.crt")).unwrap();
    let stranger = Remote::new(server.at.to_string().parse().unwrap(), &db1);
    for _ in 0..10 {
        let refused = stranger.cas(&key, mark, b"x".into()).await.unwrap_err();
        assert!(matches!(refused, CasError::Failed(_)), "{refused:?}");
        let said = refused.to_string();
        assert!(said.contains("see that both certificates are of this cluster's"), "{said}");
    }
    assert_eq!(client.get(&key).await.unwrap().mark, mark);
}
