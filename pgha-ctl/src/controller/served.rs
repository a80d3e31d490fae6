//! Where the API is served, and the certificates it is served with.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::error::ControllerError;
use super::orders::seconds;
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
        let mut served =
            Self { tasks: vec![tokio::spawn(serve_unix(socket, router.clone()))], tcp: None };
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
        served.tasks.push(tokio::spawn(follow(tcp.clone())));
        served.tcp = Some(tcp);
        Ok(served)
    }

    /// Takes up changed certificates now.
    pub(super) fn refresh(&self) {
        if let Some(tcp) = &self.tcp {
            tcp.refresh();
        }
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

    fn refresh(&self) {
        let found = match self.keys.refresh() {
            Ok(changed) => {
                if changed {
                    tracing::info!(
                        "took up new certificates in {}",
                        self.keys.directory().display()
                    );
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let mut trouble = self.trouble();
        if let Some(error) = found.as_ref().filter(|_| *trouble != found) {
            tracing::warn!("the certificates read before stay in force: {error}");
        }
        *trouble = found;
    }

    fn warn(&self) {
        let holder = self.keys.credentials();
        let left = holder.until().duration_since(SystemTime::now()).unwrap_or_default();
        if left < RENEW_BEFORE {
            tracing::warn!(
                "the certificate of {} in {} ends in {} days; renew it: pgha tls renew",
                holder.holder().name,
                self.keys.directory().display(),
                left.as_secs() / DAY
            );
        }
    }
}

async fn follow(tcp: Tcp) {
    let mut look = tokio::time::interval(LOOK);
    let mut warn = tokio::time::interval(WARN);
    loop {
        tokio::select! {
            _ = look.tick() => tcp.refresh(),
            _ = warn.tick() => tcp.warn(),
        }
    }
}
