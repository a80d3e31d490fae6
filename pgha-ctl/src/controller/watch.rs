//! Tasks that ask: one for each real server, one for the primary.
//!
//! Each owns the session it keeps open and tells what it finds through one channel. A check never
//! overlaps the next of the same server, and a slow server delays no other. They hold no state that
//! matters: aborting one at any point loses nothing but its session.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pgha_machine::balancer::{Event, Finding, Target};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, Login, Primary};
use crate::postgres::{self, PgError, PrimaryReport, Server, Session};

/// How soon a server whose session ended is checked again while its checks say nothing certain: a
/// server that is being killed needs a moment to refuse connections.
const HURRY: Duration = Duration::from_millis(20);

/// How far apart questions to the primary begin, at least, as checks of a server do by [`HURRY`]: who
/// answers and then ends the session, each time, is not asked without pause.
const PRIMARY_PAUSE: Duration = Duration::from_millis(100);

/// What the watchers tell the controller.
#[derive(Debug)]
pub(super) enum Told {
    /// About a server.
    Event(Event),
    /// The primary answered.
    Primary(IpAddr, PrimaryReport),
    /// The primary could not be asked; what each of its hosts said.
    PrimaryLost(Vec<(IpAddr, PgError)>),
}

/// How the watchers ask; changed by a reload.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) login: Login,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl Manner {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            login: config.login().clone(),
            interval: config.health().interval(),
            timeout: config.health().timeout(),
        }
    }
}

/// The tasks of all servers.
pub(super) struct Watchers {
    tasks: HashMap<Target, (JoinHandle<()>, Arc<Notify>)>,
    manner: watch::Receiver<Manner>,
    tell: mpsc::Sender<Told>,
}

impl Watchers {
    pub(super) fn new(manner: watch::Receiver<Manner>, tell: mpsc::Sender<Told>) -> Self {
        Self { tasks: HashMap::new(), manner, tell }
    }

    pub(super) fn watch(&mut self, target: Target) {
        let nudge = Arc::new(Notify::new());
        let task = watch_server(target, self.manner.clone(), self.tell.clone(), nudge.clone());
        if let Some((former, _)) = self.tasks.insert(target, (tokio::spawn(task), nudge)) {
            former.abort();
        }
    }

    pub(super) fn unwatch(&mut self, target: Target) {
        if let Some((task, _)) = self.tasks.remove(&target) {
            task.abort();
        }
    }

    pub(super) fn check_now(&self, target: Target) {
        if let Some((_, nudge)) = self.tasks.get(&target) {
            nudge.notify_one();
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(task, _)| task.abort());
    }
}

async fn watch_server(
    target: Target,
    manner: watch::Receiver<Manner>,
    tell: mpsc::Sender<Told>,
    nudge: Arc<Notify>,
) {
    let server = Server { address: target.address, port: target.port };
    let mut kept: Option<Session> = None;
    let mut hurry_until = Instant::now();
    loop {
        let Manner { login, interval, timeout } = manner.borrow().clone();
        let began = Instant::now();
        let (finding, session) = postgres::check(&login, server, timeout).await;
        let uncertain = matches!(finding, Finding::Silent(_) | Finding::Answered(_));
        // A session kept through a smart shutdown would keep the server from ever ending.
        if session.is_some() || finding == Finding::NotAccepting {
            kept = session;
        }
        if tell.send(Told::Event(Event::Checked(target, finding))).await.is_err() {
            return;
        }
        let hurry = uncertain && Instant::now() < hurry_until;
        let next = if hurry { Instant::now() + HURRY } else { began + interval };
        tokio::select! {
            () = sleep_until(next) => {}
            () = nudge.notified() => {}
            () = end_of(&mut kept) => {
                kept = None;
                hurry_until = Instant::now() + timeout;
                if tell.send(Told::Event(Event::SessionEnded(target))).await.is_err() {
                    return;
                }
                // The controller answers an ended session by a nudge.
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = nudge.notified() => {}
                }
            }
        }
        sleep_until(began + HURRY).await;
    }
}

async fn end_of(session: &mut Option<Session>) {
    match session {
        Some(session) => session.ended().await,
        None => std::future::pending().await,
    }
}

/// Asks the primary every round, at the host where it was last; looks for it among all hosts, in
/// their order, when it is not there any more.
pub(super) async fn watch_primary(
    primary: Primary,
    manner: watch::Receiver<Manner>,
    tell: mpsc::Sender<Told>,
) {
    let mut kept: Option<(IpAddr, Session)> = None;
    loop {
        let Manner { login, interval, timeout } = manner.borrow().clone();
        let began = Instant::now();
        let next = began + interval;
        let told = match ask_again(kept.take(), &login, timeout).await {
            Some((host, session, report)) => {
                kept = Some((host, session));
                Told::Primary(host, report)
            }
            None => match find_primary(&primary, &login, timeout).await {
                Ok((host, session, report)) => {
                    kept = Some((host, session));
                    Told::Primary(host, report)
                }
                Err(errors) => Told::PrimaryLost(errors),
            },
        };
        if tell.send(told).await.is_err() {
            return;
        }
        match &mut kept {
            Some((_, session)) => {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = session.ended() => {}
                }
            }
            None => sleep_until(next).await,
        }
        sleep_until(began + PRIMARY_PAUSE).await;
    }
}

type Answered = (IpAddr, Session, PrimaryReport);

async fn ask_again(
    kept: Option<(IpAddr, Session)>,
    login: &Login,
    timeout: Duration,
) -> Option<Answered> {
    let (host, session) = kept.filter(|(_, session)| !session.is_over())?;
    let report = postgres::walsenders(&session, login, host, timeout).await.ok()?;
    Some((host, session, report))
}

/// Tries the hosts in their order.
///
/// # Errors
/// What each of them said.
pub(super) async fn find_primary(
    primary: &Primary,
    login: &Login,
    timeout: Duration,
) -> Result<Answered, Vec<(IpAddr, PgError)>> {
    let mut errors = Vec::new();
    for host in primary.hosts() {
        let server = Server { address: *host, port: primary.port() };
        let asked = async {
            let session = Session::open(login, server, timeout).await?;
            let report = postgres::walsenders(&session, login, *host, timeout).await?;
            Ok((session, report))
        };
        match asked.await {
            Ok((session, report)) => return Ok((*host, session, report)),
            Err(error) => errors.push((*host, error)),
        }
    }
    Err(errors)
}
