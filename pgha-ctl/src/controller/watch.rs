//! Tasks that ask: one for each real server, one for the hosts of the primary.
//!
//! Each owns the sessions it keeps open and tells what it finds through one channel. A check never
//! overlaps the next of the same server, and a slow server delays no other. They hold no state that
//! matters: aborting one at any point loses nothing but its session. Checks of different servers begin together
//! with others, at one of [`Beats`].

mod primary;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pgha_machine::balancer::{Finding, Target};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::beat::Beats;
use crate::config::Config;
use crate::postgres::{self, Checked, Connector, Server, Session};

pub(super) use primary::{Hosts, Rival, find_primary, watch_primary};

/// How soon a server whose session ended is checked again while its checks say nothing certain, or that it takes no
/// connection, and twice as long after each time: a server that is being killed needs a moment to refuse connections, and
/// one that is restarted is back soon. These checks are besides the regular ones, and only what is certain is told of them: a server fails by as
/// many regular checks as the configuration has it.
const HURRY: Duration = Duration::from_millis(20);

/// What the watchers tell the controller.
#[derive(Debug)]
pub(super) enum Told {
    /// A check of a server ended.
    Checked(Target, Checked),
    /// The session kept open to a server ended.
    SessionEnded(Target),
    /// About the primary.
    Primary(Hosts),
    /// A login that was reloaded is of no use, as this sentence says.
    LoginRefused(String),
}

/// How the watchers ask; changed by a reload.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) connector: Connector,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl Manner {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            connector: Connector::telling(config),
            interval: config.health().interval(),
            timeout: config.health().timeout(),
        }
    }
}

/// The tasks of all servers.
pub(super) struct Watchers {
    tasks: HashMap<Target, (JoinHandle<()>, Arc<Notify>)>,
    /// How many were begun.
    begun: u32,
    manner: watch::Receiver<Manner>,
    tell: mpsc::Sender<Told>,
}

impl Watchers {
    pub(super) fn new(manner: watch::Receiver<Manner>, tell: mpsc::Sender<Told>) -> Self {
        Self { tasks: HashMap::new(), begun: 0, manner, tell }
    }

    pub(super) fn watch(&mut self, target: Target) {
        let nudge = Arc::new(Notify::new());
        let (manner, tell) = (self.manner.clone(), self.tell.clone());
        let task = watch_server(target, self.begun, manner, tell, nudge.clone());
        self.begun = self.begun.wrapping_add(1);
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
    turn: u32,
    mut manner: watch::Receiver<Manner>,
    tell: mpsc::Sender<Told>,
    nudge: Arc<Notify>,
) {
    let server = Server::new(target.address, target.port);
    let mut kept: Option<Session> = None;
    let mut hurry_until = Instant::now();
    let mut pause = HURRY;
    let mut regular = Instant::now();
    let mut hurried = false;
    loop {
        let Manner { connector, interval, timeout } = manner.borrow_and_update().clone();
        let began = Instant::now();
        let (checked, session) = postgres::check(&connector, server, kept.take(), timeout).await;
        kept = session;
        let uncertain = matches!(checked.finding, Finding::Silent(_) | Finding::Answered(_));
        let closed = matches!(checked.finding, Finding::Refused | Finding::NotAccepting);
        if !hurried {
            regular = Beats::of(interval).next(turn, began.into_std()).into();
        }
        if !(hurried && uncertain) && tell.send(Told::Checked(target, checked)).await.is_err() {
            return;
        }
        let soon = Instant::now() + pause;
        let hurry = (uncertain || closed) && soon < hurry_until.min(regular);
        let next = if hurry { soon } else { regular };
        if hurry {
            pause *= 2;
        }
        hurried = false;
        tokio::select! {
            () = sleep_until(next) => hurried = hurry,
            () = nudge.notified() => {}
            // Nobody waits for a round of the old pace.
            Ok(()) = manner.changed() => {}
            () = end_of(&mut kept) => {
                kept = None;
                hurry_until = Instant::now() + timeout;
                pause = HURRY;
                if tell.send(Told::SessionEnded(target)).await.is_err() {
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
