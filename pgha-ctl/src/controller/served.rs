//! Where the API is served, and the certificates it is served with.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::book::seconds;
use super::error::ControllerError;
use super::events::{Happening, Kind};
use super::status::ApiStatus;
use crate::config::Api;
use crate::rpc::credentials::RENEW_BEFORE;
use crate::rpc::server::{Keys, listen, serve_tcp, serve_unix};

/// How often it is seen whether the certificates' files have changed.
const LOOK: Duration = Duration::from_secs(10);
/// How often somebody is told that they end soon.
const WARN: Duration = Duration::from_secs(24 * 3600);
const DAY: u64 = 24 * 3600;

/// The listeners, which end with the value.
#[derive(Debug)]
pub(super) struct Served {
    tasks: Vec<JoinHandle<()>>,
    tcp: Option<Tcp>,
    told: mpsc::Receiver<Happening>,
}

#[derive(Clone, Debug)]
struct Tcp {
    listen: Vec<SocketAddr>,
    keys: Arc<Keys>,
    /// Why the files as they are now cannot be used.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Served {
    /// Serves on the socket, and over TCP where that is configured.
    pub(super) async fn start(
        socket: UnixListener,
        api: &Api,
        router: &Router,
    ) -> Result<Self, ControllerError> {
        let tasks = vec![tokio::spawn(serve_unix(socket, router.clone()))];
        let (tell, told) = mpsc::channel(4);
        let mut served = Self { tasks, tcp: None, told };
        if api.listen().is_empty() {
            return Ok(served);
        }
        let keys = Arc::new(Keys::load(api.tls())?);
        for address in api.listen() {
            let listener = listen(*address).await?;
            let (keys, router) = (Arc::clone(&keys), router.clone());
            served.tasks.push(tokio::spawn(serve_tcp(listener, keys, router)));
        }
        let tcp = Tcp { listen: api.listen().to_vec(), keys, trouble: Arc::default() };
        served.tasks.push(tokio::spawn(follow(tcp.clone(), tell)));
        served.tcp = Some(tcp);
        Ok(served)
    }

    /// Takes up changed certificates now. What people are told of that.
    #[must_use]
    pub(super) fn refresh(&self) -> Option<Happening> {
        self.tcp.as_ref().and_then(Tcp::refresh)
    }

    /// What people are told next of the certificates.
    pub(super) async fn next(&mut self) -> Option<Happening> {
        self.told.recv().await
    }

    pub(super) fn status(&self, now: SystemTime) -> Option<ApiStatus> {
        let tcp = self.tcp.as_ref()?;
        let credentials = tcp.keys.credentials();
        let until = credentials.until();
        let days = |time: Duration| i64::try_from(time.as_secs() / DAY).unwrap_or(i64::MAX);
        Some(ApiStatus {
            listen: tcp.listen.clone(),
            name: credentials.holder().name.clone(),
            until: seconds(until),
            days_left: match until.duration_since(now) {
                Ok(left) => days(left),
                Err(over) => -1 - days(over.duration()),
            },
            error: tcp.trouble().clone(),
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Tcp {
    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self) -> Option<Happening> {
        let refreshed = self.keys.refresh();
        let found = refreshed.as_ref().err().map(ToString::to_string);
        let mut trouble = self.trouble();
        let new = *trouble != found;
        trouble.clone_from(&found);
        match (found, refreshed) {
            (Some(error), _) if new => {
                let text = format!("the certificates read before stay in force: {error}");
                Some(Happening::warning(Kind::CertificatesFail, text))
            }
            (None, Ok(true)) => {
                let directory = self.keys.directory().display();
                let text = format!("took up new certificates in {directory}");
                Some(Happening::info(Kind::CertificatesRenewed, text))
            }
            (Some(_), _) | (None, _) => None,
        }
    }

    /// That they end soon, if they do.
    fn warning(&self, now: SystemTime) -> Option<Happening> {
        let holder = self.keys.credentials();
        let left = holder.until().duration_since(now).unwrap_or_default();
        (left < RENEW_BEFORE).then(|| {
            let text = format!(
                "the certificate of {} in {} ends in {} days; renew it: pgha tls renew",
                holder.holder().name,
                self.keys.directory().display(),
                left.as_secs() / DAY
            );
            Happening::warning(Kind::CertificatesFail, text)
        })
    }
}

async fn follow(tcp: Tcp, tell: mpsc::Sender<Happening>) {
    let mut look = tokio::time::interval(LOOK);
    let mut warn = tokio::time::interval(WARN);
    loop {
        let happening = tokio::select! {
            _ = look.tick() => tcp.refresh(),
            _ = warn.tick() => tcp.warning(SystemTime::now()),
        };
        if let Some(happening) = happening
            && tell.send(happening).await.is_err()
        {
            return;
        }
    }
}
