//! The fencing coordinator of managed nodes, on a task beside the balancer: what happens goes to the machine
//! ([`pgha_machine::failover::coordinator`]), and what comes back is carried out. What the record says is told to the
//! balancer.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use pgha_machine::balancer::Cluster;
use pgha_machine::failover::coordinator::{
    self, Accepted, Coordinator, Declined, Effect, Event, Stage,
};
use pgha_machine::failover::message::Message;
use pgha_machine::failover::record::{Ordered, Takeover};
use pgha_machine::failover::rules::Rules;
use pgha_machine::{Moment, NodeName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::error::ControllerError;
use super::events::{Happening, Kind};
use super::failover::tale::{self, Now, Tale};
use super::failover::{self, Asked, Chronicle, FailoverStatus, IncidentKind, Noted, Place};
use crate::clock::{self, Timer, unix_ms};
use crate::config::{Config, Failover};
use crate::fence;
use crate::rpc::credentials::Credentials;
use crate::rpc::post::Post;
use crate::store::Configured;
use crate::store::ledger::{Ledger, patience};

/// How much is told at once before who tells has to wait.
const ROOM: usize = 64;

/// Something that the coordinator's driver has come to.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// That was carried out, as far as it is carried out at once: a request or a device is under way then.
    Done(&'a Effect),
    /// That has happened, and the machine does not know it yet.
    Comes(&'a Event),
}

/// Is told every step of a coordinator, with the stage that it is in by then, before the next one is taken. It does
/// nothing in the program; a test ends the process in it.
pub type Observer = Arc<dyn Fn(Stage, Step<'_>) + Send + Sync>;

/// A coordinator at work, until this is dropped.
#[derive(Debug)]
pub(super) struct Fencing {
    post: Arc<Post>,
    ask: mpsc::Sender<Asked>,
    happenings: mpsc::Receiver<Happening>,
    cluster: watch::Receiver<Option<Cluster>>,
    task: JoinHandle<()>,
}

/// The routes of failover, where nodes are managed, and what says that none are where they are not.
pub(super) fn router(fencing: Option<&Fencing>, store: Configured) -> Router {
    let ask = fencing.map(|fencing| fencing.ask.clone());
    let messages = fencing.map(|fencing| fencing.post.router()).unwrap_or_default();
    failover::router(ask, Place::of(store)).merge(messages)
}

/// What failover has for the rest of the controller.
#[derive(Debug)]
pub(super) enum Word {
    /// For people.
    Happening(Happening),
    /// For the balancer: who serves whom, by the record.
    Cluster(Cluster),
}

/// The next word of failover, where nodes are managed.
pub(super) async fn next(fencing: &mut Option<Fencing>) -> Option<Word> {
    let Some(fencing) = fencing else { return pending().await };
    loop {
        tokio::select! {
            happening = fencing.happenings.recv() => return happening.map(Word::Happening),
            changed = fencing.cluster.changed() => {
                changed.ok()?;
                let cluster = fencing.cluster.borrow_and_update().clone();
                if let Some(cluster) = cluster {
                    return Some(Word::Cluster(cluster));
                }
            }
        }
    }
}

impl Fencing {
    /// Begins, where nodes are managed and this controller is one of those that decide about them.
    ///
    /// # Errors
    /// The certificate cannot be used or names no controller.
    pub(super) fn begin(
        config: &Config,
        store: Configured,
        observer: Observer,
    ) -> Result<Option<Self>, ControllerError> {
        let (Some(failover), false) = (config.failover(), config.api().listen().is_empty()) else {
            return Ok(None);
        };
        if failover.controllers().is_empty() {
            return Ok(None);
        }
        let tls = config.api().tls();
        let name = Credentials::load(tls)?.holder().name.clone();
        let known = failover.controllers().keys().find(|known| known.as_str() == name);
        let name: NodeName = known.cloned().ok_or(ControllerError::NoController(name))?;
        let mut controllers = failover.controller_names();
        controllers.remove(&name);
        let post = Arc::new(Post::new(&failover.peers_of(&name), tls));
        let chronicle = Chronicle::begin(Place::of(store.clone()));
        let ledger = Ledger::new(store, patience(config.lease()));
        let devices = Arc::new(devices(failover));
        let machine = coordinator::Config {
            name: name.clone(),
            controllers,
            devices: devices.nodes(),
            rules: Rules::default(),
        };
        let (tell, told) = mpsc::channel(ROOM);
        let (ask, asked) = mpsc::channel(ROOM);
        let (happen, happenings) = mpsc::channel(ROOM);
        let (says, cluster) = watch::channel(None);
        let driver = Driver {
            name,
            asked,
            orders: HashMap::new(),
            order: 0,
            happen,
            chronicle,
            tale: Tale::default(),
            coordinator: Coordinator::new(machine, clock::now()),
            post: Arc::clone(&post),
            timer: Timer::new().map_err(ControllerError::Timer)?,
            ledger,
            tell,
            told,
            devices,
            stage: Stage::Unknown,
            observer,
            silent: None,
            alone: None,
            says,
        };
        Ok(Some(Self { post, ask, happenings, cluster, task: tokio::spawn(driver.run()) }))
    }
}

impl Drop for Fencing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the answer to an order goes, and whose it was.
struct Order {
    takeover: Takeover,
    by: String,
    reply: oneshot::Sender<Result<Accepted, Declined>>,
}

struct Driver {
    name: NodeName,
    asked: mpsc::Receiver<Asked>,
    /// The orders that are not answered yet, by number.
    orders: HashMap<u64, Order>,
    order: u64,
    happen: mpsc::Sender<Happening>,
    chronicle: Chronicle,
    tale: Tale,
    coordinator: Coordinator,
    post: Arc<Post>,
    timer: Timer,
    ledger: Ledger<Configured>,
    tell: mpsc::Sender<Event>,
    told: mpsc::Receiver<Event>,
    devices: Arc<fence::Fencing>,
    stage: Stage,
    observer: Observer,
    /// Since when the store does not answer.
    silent: Option<Moment>,
    /// Who goes on as the primary without the store.
    alone: Option<NodeName>,
    /// Tells the balancer, which shares nothing else with this task.
    says: watch::Sender<Option<Cluster>>,
}

impl Driver {
    async fn run(mut self) {
        let (ledger, tell) = (self.ledger.clone(), self.tell.clone());
        let follow = async move { ledger.follow(tell, Event::Store).await };
        tokio::pin!(follow);
        loop {
            self.carry_out();
            let event = tokio::select! {
                elapsed = self.timer.elapsed() => match elapsed {
                    Ok(()) => Event::Tick,
                    Err(error) => {
                        return tracing::error!("the coordinator of failover ends: its timer fails: {error}");
                    }
                },
                Some(event) = self.told.recv() => event,
                (from, message) = self.post.next() => Event::Heard { from, message },
                Some(asked) = self.asked.recv() => match self.asked(asked) {
                    Some(event) => event,
                    None => continue,
                },
                () = &mut follow => return,
            };
            (self.observer)(self.coordinator.stage(), Step::Comes(&event));
            self.coordinator.handle(clock::now(), event);
        }
    }

    /// Does what the machine wants, in its order.
    fn carry_out(&mut self) {
        while let Some(effect) = self.coordinator.poll_effect() {
            let done = effect.clone();
            match effect {
                Effect::Store(request) => {
                    self.ledger.ask_beside(request, self.tell.clone(), Event::Store);
                }
                Effect::Send { to, message } => self.post.send(&to, message),
                Effect::TurnOff { node, renewal } => {
                    let (devices, tell) = (Arc::clone(&self.devices), self.tell.clone());
                    let text = format!("{node} is turned off by its fence devices");
                    self.happened(IncidentKind::Fenced, text);
                    tokio::spawn(async move {
                        let off = turn_off(&devices, &node).await;
                        let _ = tell.send(Event::TurnedOff { node, renewal, off }).await;
                    });
                }
                Effect::Answered { number, result } => self.answer(number, result),
            }
            (self.observer)(self.coordinator.stage(), Step::Done(&done));
        }
        self.silent = match self.coordinator.store_answers() {
            Some(false) => self.silent.or_else(|| Some(clock::now())),
            Some(true) | None => None,
        };
        self.tell_stage();
        self.tell_alone();
        self.tell_balancer();
        if let Err(error) = self.timer.set(self.coordinator.poll_timeout(clock::now())) {
            tracing::error!("the timer of the coordinator cannot be set: {error}");
        }
    }

    fn tell_alone(&mut self) {
        let alone = self.coordinator.who_goes_on_alone(clock::now()).cloned();
        if alone == self.alone {
            return;
        }
        match (&alone, &self.alone) {
            (Some(primary), _) => tracing::warn!(
                "failover: {primary} goes on as the primary without the store, by what every member grants"
            ),
            (None, Some(primary)) => {
                tracing::info!(
                    "failover: {primary} goes on by its lease again, or is not heard any more"
                );
            }
            (None, None) => {}
        }
        self.alone = alone;
    }

    fn tell_balancer(&self) {
        let current = self.coordinator.sees_renewals(clock::now());
        let said = self.coordinator.record().map(|record| Cluster::of(record, current));
        self.says.send_if_modified(|known| {
            let changed = said.is_some() && *known != said;
            if changed {
                *known = said;
            }
            changed
        });
    }

    fn tell_stage(&mut self) {
        let stage = self.coordinator.stage();
        if stage != self.stage {
            tracing::info!("failover: {}", text(stage));
            self.stage = stage;
        }
        let now = Now { moment: clock::now(), wall: unix_ms() };
        if let Some(record) = self.coordinator.record() {
            let renewed = self.coordinator.renewed();
            for noted in self.tale.tell(&self.name, record, renewed, now) {
                self.note(noted);
            }
        }
        let why_not = self.coordinator.why_not().map(|why| why.to_string());
        if let Some(noted) = self.tale.nobody(&self.name, why_not, now) {
            self.note(noted);
        }
    }

    /// What an operator asks; what of it is the machine's.
    fn asked(&mut self, asked: Asked) -> Option<Event> {
        match asked {
            Asked::Look(reply) => {
                let now = clock::now();
                let view = self.coordinator.view(now);
                let silent = self.silent.map(|since| now.since(since));
                // Whoever asked may be gone by now.
                let _ = reply.send(FailoverStatus::of(self.name.clone(), view, silent));
                None
            }
            Asked::Order(takeover, by, reply) => {
                self.order += 1;
                let ordered = Ordered { takeover: takeover.clone(), by: by.clone(), at: unix_ms() };
                self.orders.insert(self.order, Order { takeover, by, reply });
                Some(Event::Ordered { number: self.order, ordered })
            }
            Asked::Clear(node, by, reply) => {
                let members = self.coordinator.record().map(|record| record.members.keys());
                let told = members.into_iter().flatten();
                let told: Vec<_> = told
                    .filter(|name| node.as_ref().is_none_or(|node| node == *name))
                    .cloned()
                    .collect();
                for to in &told {
                    tracing::info!("{by} says that what failed on {to} is mended");
                    self.post.send(to, Message::Clear);
                }
                let _ = reply.send(told);
                None
            }
        }
    }

    fn answer(&mut self, number: u64, result: Result<Accepted, Declined>) {
        let Some(Order { takeover, by, reply }) = self.orders.remove(&number) else { return };
        if let Err(why) = &result {
            self.happened(IncidentKind::Declined, tale::declined(&takeover, &by, why));
        }
        let _ = reply.send(result);
    }

    fn happened(&self, kind: IncidentKind, text: String) {
        let epoch = self.coordinator.record().map(|record| record.epoch);
        self.note(Noted::Incident(tale::incident(&self.name, epoch, kind, text, unix_ms())));
    }

    /// Has it written to the history, and people told.
    fn note(&self, noted: Noted) {
        if let Noted::Incident(incident) = &noted {
            let text = format!("failover: {}", incident.text);
            let happening = match incident.kind {
                IncidentKind::Promoted | IncidentKind::Thawed | IncidentKind::Nominated => {
                    Happening::info(Kind::Failover, text)
                }
                IncidentKind::Ordered
                | IncidentKind::Declined
                | IncidentKind::Frozen
                | IncidentKind::Nobody
                | IncidentKind::Fenced => Happening::warning(Kind::Failover, text),
            };
            // The loop is busy or ends: it stands in the history all the same.
            let _ = self.happen.try_send(happening);
        }
        self.chronicle.note(noted);
    }
}

/// Whether a node is known to be off after this.
async fn turn_off(devices: &fence::Fencing, node: &NodeName) -> bool {
    tracing::warn!("{node} is turned off by its fence devices");
    let ended = devices.turn_off(node).await;
    ended.inspect_err(|error| tracing::error!("that proves nothing: {error}")).is_ok()
}

/// The devices, as the configuration has them.
fn devices(failover: &Failover) -> fence::Fencing {
    let mut levels: BTreeMap<NodeName, BTreeMap<u32, fence::Level>> = BTreeMap::new();
    for device in failover.fences() {
        let of_node = levels.entry(device.node().clone()).or_default();
        let secret = |(option, file): (&String, &PathBuf)| fence::Secret {
            option: option.clone(),
            file: file.clone(),
        };
        of_node.entry(device.level()).or_insert_with(|| fence::Level(Vec::new())).0.push(
            fence::Device {
                name: device.name().to_string(),
                agent: device.agent().to_owned(),
                options: device.options().clone(),
                secrets: device.secrets().iter().map(secret).collect(),
            },
        );
    }
    let in_order = |(node, levels): (_, BTreeMap<_, _>)| (node, levels.into_values().collect());
    fence::Fencing {
        levels: levels.into_iter().map(in_order).collect(),
        patience: failover.fence_timeout(),
    }
}

const fn text(stage: Stage) -> &'static str {
    match stage {
        Stage::Unknown => "the record is not known",
        Stage::Watching => "there is a primary",
        Stage::Frozen => "the primary is suspected, and its voters are to stop",
        Stage::Nominated => "a candidate may take the next epoch",
    }
}
