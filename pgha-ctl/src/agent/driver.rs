//! The loop: what happens goes to the machine, and what comes back is carried out, in its order.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use pgha_machine::NodeName;
use pgha_machine::failover::agent::{Agent, Command, Effect, Event, Role};
use pgha_machine::failover::message::Message;
use pgha_machine::failover::{Answer, Written};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::copies::{self, Copies};
use super::error::AgentError;
use super::news::{self, News};
use super::orders::Orders;
use super::sight::{self, Told};
use super::status::{AgentStatus, RoleStatus, SCHEMA};
use super::works::Works;
use crate::clock::{self, Timer};
use crate::rpc::post::Post;
use crate::store::Configured;
use crate::store::ledger::Ledger;
use crate::telemetry::service::Service;

/// An agent that runs.
pub(super) struct Driver {
    pub(super) name: NodeName,
    pub(super) agent: Agent,
    pub(super) works: Arc<Works>,
    pub(super) orders: Orders<Works>,
    pub(super) copies: Copies,
    pub(super) ledger: Ledger<Configured>,
    pub(super) post: Post,
    pub(super) timer: Timer,
    pub(super) tell: mpsc::Sender<Told>,
    pub(super) told: mpsc::Receiver<Told>,
    pub(super) status: watch::Sender<Arc<AgentStatus>>,
    pub(super) news: News,
    pub(super) service: Service,
}

impl Driver {
    /// Runs until a signal ends it. PostgreSQL stays.
    pub(super) async fn run(&mut self, mut signals: Signals) -> Result<(), AgentError> {
        let (ledger, tell) = (self.ledger.clone(), self.tell.clone());
        let mut beside = JoinSet::new();
        beside.spawn(async move { ledger.follow(tell, of_store).await });
        let status = self.status.subscribe();
        beside.spawn(sight::watch(Arc::clone(&self.works), self.tell.clone(), status));
        beside.spawn(sight::probe(Arc::clone(&self.works), self.works.faults.clone()));
        beside.spawn(self.works.faults.clone().tell(self.tell.clone()));
        self.carry_out("the agent begins")?;
        // It is asked and told from here on, and the lease is kept; what PostgreSQL is stands in the status.
        self.service.ready();
        // An end that is wanted is put off until a renewal, and until then at the latest.
        let mut leaves_by: Option<Instant> = None;
        loop {
            self.service.beat();
            let event = tokio::select! {
                biased;
                _ = signals.next() => match leaves_by {
                    None if *self.agent.role() == Role::Primary => {
                        leaves_by = Some(Instant::now() + self.until_renewed());
                        continue;
                    }
                    None | Some(_) => break,
                },
                () = until(leaves_by) => break,
                elapsed = self.timer.elapsed() => { elapsed.map_err(AgentError::Timer)?; Event::Tick }
                Some(told) = self.told.recv() => match self.current(told) {
                    Some(event) => event,
                    None => continue,
                },
                (from, message) = self.post.next() => Event::Heard { from, message },
                () = self.service.due() => continue,
            };
            self.refuse_another_cluster(&event).await?;
            let because = news::reason(&event);
            let is_renewed = matches!(event, Event::Store(Answer::Written(Written::Done(_))));
            if let Event::Heard { from, message: Message::Clear } = &event
                && self.agent.obeys(from)
            {
                tracing::info!("an operator says by {from} that what failed is mended");
                self.works.failures.clear();
            }
            self.agent.handle(clock::now(), event);
            self.carry_out(&because)?;
            if is_renewed && leaves_by.is_some() {
                break;
            }
        }
        self.service.stopping();
        tracing::info!(
            "the agent of {} ends; PostgreSQL stays as it is, within its lease",
            self.name
        );
        Ok(())
    }

    /// How long the agent of a primary waits for a renewal before it ends: the next one has the more time then,
    /// before anybody takes this one for lost.
    fn until_renewed(&self) -> Duration {
        self.agent.record().map_or(Duration::ZERO, |record| record.pace.lease.renew_every())
    }

    /// A log of another cluster is told to nobody as if it was of this one: no such record comes to the machine.
    async fn refuse_another_cluster(&self, event: &Event) -> Result<(), AgentError> {
        let Event::Store(Answer::Read(Some(reading)) | Answer::Changed(reading)) = event else {
            return Ok(());
        };
        let theirs = reading.record.as_ref().and_then(|record| record.system);
        match (self.works.about.system, theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                self.works.shut();
                self.works.server.kill().await?;
                let node = self.name.to_string();
                Err(AgentError::OtherCluster { node, ours, theirs })
            }
            _ => Ok(()),
        }
    }

    /// Does what the machine wants, in its order, and waits for what it waits for.
    fn carry_out(&mut self, because: &str) -> Result<(), AgentError> {
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Store(request) => {
                    self.ledger.ask_beside(request, self.tell.clone(), of_store);
                }
                Effect::Send { to, message } => self.post.send(&to, message),
                Effect::Do { number, command } => {
                    news::order(&self.agent, &command, because);
                    if command == Command::Kill {
                        // Whatever the order before still waits for: nothing passes from here on.
                        self.works.shut();
                    }
                    self.orders.begin(number, command);
                }
                Effect::Arm(until) => {
                    let lease = self.agent.record().map(|record| record.pace.lease);
                    self.works.arm(until, lease);
                }
                Effect::Copy { number, from } => {
                    self.copies.begin(Arc::clone(&self.works), self.tell.clone(), number, from);
                }
                Effect::Claim(epoch) => self.works.claim(epoch),
            }
        }
        self.news.tell(&self.agent, because);
        self.works.readers(self.agent.role());
        self.publish();
        self.timer.set(self.agent.poll_timeout(clock::now())).map_err(AgentError::Timer)
    }

    /// What is told, unless it was seen of another start than the one that runs.
    fn current(&self, told: Told) -> Option<Event> {
        match told {
            Told::Event(event) => Some(event),
            Told::Seen { start, event } => {
                let runs = self.works.server.runs();
                runs.is_some_and(|(runs, _)| runs == start).then_some(event)
            }
        }
    }

    fn publish(&mut self) {
        let record = self.agent.record();
        let status = AgentStatus {
            schema: SCHEMA,
            node: self.name.clone(),
            role: role(self.agent.role()),
            role_text: news::role_text(self.agent.role()),
            standing: news::standing_text(&self.agent.standing()),
            epoch: record.map(|record| record.epoch),
            holder: record.and_then(|record| record.holder().cloned()),
            wal: self.agent.wal().cloned(),
            failsafe: self.agent.goes_on_alone(),
            rebuild: copies::text(self.agent.stranded(), &self.works),
            failsafe_of: self.agent.who_goes_on_alone(clock::now()).cloned(),
            store: self.agent.store_answers(),
            record: record.cloned(),
            ..self.works.status()
        };
        let epoch = status.epoch.map_or_else(|| "unknown".to_owned(), |epoch| epoch.to_string());
        self.service.status(format!(
            "PostgreSQL is {}; the record (epoch {epoch}): this node is {}",
            status.role_text, status.standing
        ));
        self.status.send_if_modified(|known| {
            let changed = **known != status;
            if changed {
                *known = Arc::new(status);
            }
            changed
        });
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

fn of_store(answer: Answer) -> Told {
    Told::Event(Event::Store(answer))
}

const fn role(role: &Role) -> RoleStatus {
    match role {
        Role::Down => RoleStatus::Down,
        Role::Standby { .. } => RoleStatus::Standby,
        Role::Frozen { .. } => RoleStatus::Frozen,
        Role::Restarted { .. } => RoleStatus::Restarted,
        Role::Primary => RoleStatus::Primary,
    }
}

/// The signals that end an agent.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Waits for the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    pub(super) fn new() -> Result<Self, AgentError> {
        let on = |kind| signal(kind).map_err(AgentError::Signals);
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }
}
