//! The fencing coordinator of managed nodes, on a task beside the balancer: what happens goes to the machine
//! ([`pgha_machine::failover::coordinator`]), and what comes back is carried out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use pgha_machine::NodeName;
use pgha_machine::failover::coordinator::{self, Coordinator, Effect, Event, Stage};
use pgha_machine::failover::rules::Rules;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::ControllerError;
use crate::clock::{self, Timer};
use crate::config::{Config, Failover};
use crate::fence;
use crate::rpc::credentials::Credentials;
use crate::rpc::post::Post;
use crate::store::Configured;
use crate::store::ledger::{Ledger, patience};

/// How much is told at once before who tells has to wait.
const ROOM: usize = 64;

/// A coordinator at work, until this is dropped.
#[derive(Debug)]
pub(super) struct Fencing {
    post: Arc<Post>,
    task: JoinHandle<()>,
}

impl Fencing {
    /// Begins, where nodes are managed and this controller is one of those that decide about them.
    ///
    /// # Errors
    /// The certificate cannot be used or names no controller.
    pub(super) fn begin(
        config: &Config,
        store: Configured,
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
        let ledger = Ledger::new(store, patience(config.lease()));
        let devices = Arc::new(devices(failover));
        let machine = coordinator::Config {
            name,
            controllers,
            devices: devices.nodes(),
            rules: Rules::default(),
        };
        let (tell, told) = mpsc::channel(ROOM);
        let driver = Driver {
            coordinator: Coordinator::new(machine, clock::now()),
            post: Arc::clone(&post),
            timer: Timer::new().map_err(ControllerError::Timer)?,
            ledger,
            tell,
            told,
            devices,
            stage: Stage::Unknown,
            why_not: None,
        };
        Ok(Some(Self { post, task: tokio::spawn(driver.run()) }))
    }

    /// The route by which messages come in.
    pub(super) fn router(&self) -> Router {
        self.post.router()
    }
}

impl Drop for Fencing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driver {
    coordinator: Coordinator,
    post: Arc<Post>,
    timer: Timer,
    ledger: Ledger<Configured>,
    tell: mpsc::Sender<Event>,
    told: mpsc::Receiver<Event>,
    devices: Arc<fence::Fencing>,
    stage: Stage,
    why_not: Option<String>,
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
                () = &mut follow => return,
            };
            self.coordinator.handle(clock::now(), event);
        }
    }

    /// Does what the machine wants, in its order.
    fn carry_out(&mut self) {
        while let Some(effect) = self.coordinator.poll_effect() {
            match effect {
                Effect::Store(request) => {
                    self.ledger.ask_beside(request, self.tell.clone(), Event::Store);
                }
                Effect::Send { to, message } => self.post.send(&to, message),
                Effect::TurnOff { node, renewal } => {
                    let (devices, tell) = (Arc::clone(&self.devices), self.tell.clone());
                    tokio::spawn(async move {
                        let off = turn_off(&devices, &node).await;
                        let _ = tell.send(Event::TurnedOff { node, renewal, off }).await;
                    });
                }
            }
        }
        self.tell_stage();
        if let Err(error) = self.timer.set(self.coordinator.poll_timeout(clock::now())) {
            tracing::error!("the timer of the coordinator cannot be set: {error}");
        }
    }

    fn tell_stage(&mut self) {
        let (stage, why_not) =
            (self.coordinator.stage(), self.coordinator.why_not().map(|why| why.to_string()));
        if stage != self.stage {
            tracing::info!("failover: {}", text(stage));
            self.stage = stage;
        }
        if why_not != self.why_not {
            if let Some(why) = &why_not {
                tracing::info!("failover: nobody is nominated yet: {why}");
            }
            self.why_not = why_not;
        }
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
