//! What is seen of PostgreSQL while it runs: its end, its log, who streams from it, its gate, and its disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use pgha_machine::failover::agent::Event;
use pgha_machine::failover::record::Doubt;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::failures::FailureKind;
use super::faults::{Cause, Faults};
use super::status::{AgentStatus, RoleStatus};
use super::works::Works;
use crate::clock::unix_ms;
use crate::postgres::server::probe::{Health, WriteProbe, directories};
use crate::postgres::server::watching::{Objections, Seen, Watch};

/// How often it is looked whether another start runs.
const START: Duration = Duration::from_millis(5);
/// How often the server is asked.
const LOOK: Duration = Duration::from_millis(100);
/// The same while clients are kept out until its voters have all of its log.
const AWAITED: Duration = Duration::from_millis(5);
/// How often its settings are looked at.
const SETTINGS: Duration = Duration::from_secs(1);
/// How often the disk is written to, at least.
const PROBE: Duration = Duration::from_secs(1);

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Told {
    /// This has happened.
    Event(Event),
    /// This was seen of a start of PostgreSQL; it says nothing of another.
    Seen {
        /// The number of the start.
        start: u64,
        /// What.
        event: Event,
    },
}

/// Looks for as long as the agent runs.
pub(super) async fn watch(
    works: Arc<Works>,
    tell: mpsc::Sender<Told>,
    mut status: watch::Receiver<Arc<AgentStatus>>,
) {
    loop {
        let Some((start, _)) = works.server.runs() else {
            sleep(START).await;
            continue;
        };
        let sight = Sight { works: &works, tell: &tell, start };
        tokio::select! {
            () = works.server.ended() => sight.gone().await,
            () = sight.look(&mut status) => {}
        }
    }
}

/// Looks whether the disk writes, for as long as the agent runs.
pub(super) async fn probe(works: Arc<Works>, faults: Faults) {
    let (user, data) = (works.server.user(), &works.server.config().data);
    let within = works.write_timeout;
    let every = PROBE.min(within / 4);
    let mut told = None;
    let probe = loop {
        let probed = directories(user, data);
        match probed.and_then(|at| WriteProbe::start(user.clone(), at, every, within)) {
            Ok(probe) => break probe,
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::warn!("the disk is not probed yet: {error}");
                    told = Some(error);
                }
                sleep(every).await;
            }
        }
    };
    let mut faulty = false;
    let mut look = interval(every);
    loop {
        look.tick().await;
        let trouble = match probe.health() {
            Health::Writes(_) => None,
            Health::Hangs(time) => Some(format!("a write takes {} ms", time.as_millis())),
            Health::Fails(error) => Some(error),
        };
        if trouble.is_some() == faulty {
            continue;
        }
        faulty = trouble.is_some();
        let reason = trouble.map(|trouble| format!("the disk does not write: {trouble}"));
        match &reason {
            Some(reason) => tracing::warn!("{reason}"),
            None => tracing::info!("the disk writes again"),
        }
        faults.set(Cause::Disk, reason);
    }
}

/// One start of PostgreSQL.
struct Sight<'w> {
    works: &'w Works,
    tell: &'w mpsc::Sender<Told>,
    start: u64,
}

impl Sight<'_> {
    async fn tell(&self, event: Event) {
        let _ = self.tell.send(Told::Seen { start: self.start, event }).await;
    }

    /// Tells that it has ended for as long as it is there: until it is killed. Once may be too early, while it
    /// counts as on its way up.
    async fn gone(&self) {
        if self.runs() && !self.works.is_shut() {
            let reason =
                format!("PostgreSQL of start {} ended, and nobody had ordered it", self.start);
            self.works.failures.note(FailureKind::Crash, reason, unix_ms());
        }
        while self.runs() {
            self.tell(Event::Gone).await;
            sleep(LOOK).await;
        }
    }

    fn runs(&self) -> bool {
        self.works.server.runs().is_some_and(|(runs, _)| runs == self.start)
    }

    /// Looks until the start is over.
    async fn look(&self, status: &mut watch::Receiver<Arc<AgentStatus>>) {
        let mut watch = Watch::of(self.works.server.clone());
        let mut settings = interval(SETTINGS);
        settings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = None;
        while self.runs() {
            if self.works.is_shut() {
                self.tell(Event::GateClosed).await;
            }
            // One that is on its way up, or about to end, answers nothing.
            if let Ok(seen) = watch.look().await {
                if settings.tick().now_or_never().is_some() {
                    if let Ok(objections) = watch.objections().await {
                        known = Some(objections);
                    }
                    self.works.know(self.start, watch.facts().await.ok());
                    if seen.in_recovery {
                        self.works.server.forget_what_was_behind();
                    }
                }
                if !seen.standbys.impostors.is_empty()
                    && let Err(error) = self.works.server.end_impostors(&seen.standbys.impostors)
                {
                    tracing::warn!("who streams under the name of a node goes on: {error}");
                }
                for event in events(seen, known.as_ref()) {
                    self.tell(event).await;
                }
            }
            until_next(status).await;
        }
    }
}

/// Waits until the next look is due: at once where clients begin to wait for it.
async fn until_next(status: &mut watch::Receiver<Arc<AgentStatus>>) {
    let awaited = |status: &Arc<AgentStatus>| status.role == RoleStatus::Restarted;
    let already = awaited(&status.borrow());
    if already {
        return sleep(AWAITED).await;
    }
    let over = matches!(timeout(LOOK, status.wait_for(awaited)).await, Ok(Err(_)));
    if over {
        // So is the agent.
        sleep(LOOK).await;
    }
}

/// What a look says.
fn events(seen: Seen, objections: Option<&Objections>) -> Vec<Event> {
    let Seen { in_recovery, wal, standbys } = seen;
    let mut events: Vec<_> = wal.map(Event::Log).into_iter().collect();
    if let Some(objections) = objections {
        events.push(Event::Restores(objections.restore_command.is_some()));
        events.extend(objections.begins.map(Event::Begins));
    }
    if in_recovery {
        return events;
    }
    events.push(Event::OutOfRecovery);
    let alone = |node| !standbys.impersonated.contains(node);
    let flushed = standbys.flushed.iter().filter(|(node, _)| alone(*node));
    events.push(Event::Standbys(flushed.map(|(node, lsn)| (node.clone(), *lsn)).collect()));
    // That there are none is not known before everything was looked at.
    let lowered =
        objections.map(|objections| objections.lowered.iter().cloned().map(Doubt::Lowered));
    let impersonated = standbys.impersonated.iter().cloned().map(Doubt::Impersonated);
    if lowered.is_some() || !standbys.impersonated.is_empty() {
        let doubts = lowered.into_iter().flatten().chain(impersonated);
        events.push(Event::Doubts(doubts.collect::<BTreeSet<_>>()));
    }
    events
}
