//! The guardian, from the agent's side: what it is to guard is kept equal to what is wanted, also by the one that
//! comes in the place of another.

use std::sync::Arc;
use std::time::Duration;

use pgha_machine::Moment;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::guardian::{Charge, Client, GuardianError, Refusal, Spawn, Surrendered};

/// How long until a guardian that could not be had is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long one may take to take a charge, its start included, before PostgreSQL is not started or promoted.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many guardians there may be at a time: several only while one program takes over from another.
const MOST: u32 = 4;

/// What is to be guarded.
#[derive(Clone, Debug, Default)]
struct Wanted {
    charge: Option<Charge>,
    /// That there is nothing to guard is known, too: the agent has looked.
    is_known: bool,
}

/// What the guardian was told last.
#[derive(Clone, Debug)]
enum Told {
    /// This, and it has confirmed it.
    Charge(Option<Charge>),
    /// Nothing that counts.
    Trouble(Arc<str>),
}

/// No guardian has taken the charge.
#[derive(Debug, thiserror::Error)]
#[error(
    "no guardian takes the charge of start {start}: {why}; see its reason in this log, or give [agent] guardian = false"
)]
pub(super) struct Unguarded {
    start: u64,
    why: String,
}

/// What a guardian is to guard.
#[derive(Debug)]
pub(super) struct Guard {
    wanted: watch::Sender<Wanted>,
    told: watch::Receiver<Told>,
    required: bool,
    task: JoinHandle<()>,
}

impl Guard {
    /// Has a guardian started where none runs, and keeps it told. It is no error to be without one, unless it
    /// is `required`.
    pub(super) fn new(spawn: Spawn, required: bool) -> Self {
        let (wanted, wants) = watch::channel(Wanted::default());
        let (tell, told) = watch::channel(Told::Trouble("it was not told yet".into()));
        let task = tokio::spawn(keep_told(spawn, wants, tell));
        Self { wanted, told, required, task }
    }

    /// This is to be guarded from now on.
    pub(super) fn charge(&self, charge: Charge) {
        self.wanted.send_replace(Wanted { charge: Some(charge), is_known: true });
    }

    /// The moment is another.
    pub(super) fn renew(&self, until: Moment) {
        self.wanted.send_if_modified(|wanted| match &mut wanted.charge {
            Some(charge) if charge.until < until => {
                charge.until = until;
                true
            }
            Some(_) | None => false,
        });
    }

    /// Nothing is to be guarded.
    pub(super) fn stand_down(&self) {
        self.wanted.send_if_modified(|wanted| {
            let was_known = std::mem::replace(&mut wanted.is_known, true);
            wanted.charge.take().is_some() || !was_known
        });
    }

    /// Waits until a start is guarded.
    ///
    /// # Errors
    /// No guardian has taken it in time, and one is required.
    pub(super) async fn guarded(&self, start: u64) -> Result<(), Unguarded> {
        let mut told = self.told.clone();
        let is = |told: &Told| match told {
            Told::Charge(charge) => charge.as_ref().is_some_and(|charge| charge.start == start),
            Told::Trouble(_) => false,
        };
        if tokio::time::timeout(PATIENCE, told.wait_for(is)).await.is_ok_and(|told| told.is_ok()) {
            return Ok(());
        }
        let why = match &*self.told.borrow() {
            Told::Trouble(why) => why.to_string(),
            Told::Charge(_) => "it guards another start".to_owned(),
        };
        let unguarded = Unguarded { start, why };
        if self.required {
            return Err(unguarded);
        }
        tracing::warn!("{unguarded}: going on without");
        Ok(())
    }
}

impl Drop for Guard {
    /// The guardian itself goes on counting.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The guardians of this node: one, but for the time in which another program takes over from the one before.
struct Guardians {
    /// Is told what is wanted.
    told: Client,
    /// To be dismissed, once that one has confirmed.
    others: Vec<Client>,
    /// Is being started, because the one that is told is of another program.
    successor: Option<JoinHandle<Result<Client, GuardianError>>>,
}

impl Guardians {
    /// Those that run; where there is none, one is started.
    async fn gather(spawn: &Spawn) -> Result<Self, GuardianError> {
        let (mut same, mut others, mut free) = (None, Vec::new(), None);
        for number in 0..MOST {
            let at = spawn_at(spawn, number);
            match Client::connect(&at.socket).await {
                Ok(client) if same.is_none() && client.is_of_this_program() => same = Some(client),
                Ok(client) => others.push(client),
                Err(_) => free = free.or(Some(at)),
            }
        }
        let free = free.unwrap_or_else(|| spawn.clone());
        if let Some(told) = same {
            return Ok(Self { told, others, successor: None });
        }
        match others.pop() {
            None => Ok(Self { told: Client::spawn(&free).await?, others, successor: None }),
            Some(told) => {
                tracing::info!(
                    "the guardian is of another program than this agent: it is replaced"
                );
                // It guards until then, and wants to hear of renewals.
                let successor = Some(tokio::spawn(async move { Client::spawn(&free).await }));
                Ok(Self { told, others, successor })
            }
        }
    }

    /// What is guarded is guarded by the one that is told; the others are not needed any more.
    async fn dismiss_others(&mut self) {
        for other in self.others.drain(..) {
            match other.dismiss().await {
                Ok(()) => tracing::info!("the guardian before this one stands down"),
                Err(error) => tracing::warn!(
                    "the guardian before this one does not stand down, and ends PostgreSQL at the moment that it \
                     was told last: {error}"
                ),
            }
        }
    }
}

/// Returns when there is a successor, or none to be had. Cancel-safe.
async fn succeeded(
    successor: &mut Option<JoinHandle<Result<Client, GuardianError>>>,
) -> Result<Client, GuardianError> {
    let Some(task) = successor else { return std::future::pending().await };
    let begun = task.await;
    *successor = None;
    begun.unwrap_or(Err(GuardianError::Silent))
}

/// Where another guardian beside the first listens.
fn spawn_at(spawn: &Spawn, number: u32) -> Spawn {
    let mut at = spawn.clone();
    if number > 0 {
        at.socket.set_extension(format!("{number}.sock"));
    }
    at
}

async fn keep_told(spawn: Spawn, mut wants: watch::Receiver<Wanted>, tell: watch::Sender<Told>) {
    loop {
        let trouble = match Guardians::gather(&spawn).await {
            Ok(guardians) => tell_all(guardians, &mut wants, &tell).await,
            Err(error) => error,
        };
        let text = trouble.to_string();
        let known = matches!(&*tell.borrow(), Told::Trouble(known) if **known == *text);
        if !known {
            tracing::warn!("the guardian: {text}");
        }
        tell.send_replace(Told::Trouble(text.into()));
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells one guardian what is wanted, until it is of no use any more.
async fn tell_all(
    mut guardians: Guardians,
    wants: &mut watch::Receiver<Wanted>,
    tell: &watch::Sender<Told>,
) -> GuardianError {
    let mut known: Option<Charge> = None;
    wants.mark_changed();
    loop {
        tokio::select! {
            changed = wants.changed() => if changed.is_err() {
                return GuardianError::Silent;
            },
            given_up = guardians.told.surrendered() => match given_up {
                Ok(surrendered) => {
                    surrender(&surrendered);
                    known = None;
                    continue;
                }
                Err(error) => return error,
            },
            successor = succeeded(&mut guardians.successor) => match successor {
                Ok(successor) => {
                    let former = std::mem::replace(&mut guardians.told, successor);
                    guardians.others.push(former);
                    known = None;
                    wants.mark_changed();
                    continue;
                }
                Err(error) => {
                    tracing::warn!("the guardian of the program before this one goes on: {error}");
                    continue;
                }
            },
        }
        let Wanted { charge: wanted, is_known } = wants.borrow_and_update().clone();
        match bring_up_to_date(&mut guardians.told, known.as_ref(), wanted.as_ref()).await {
            Ok(()) => {
                known.clone_from(&wanted);
                if is_known {
                    guardians.dismiss_others().await;
                }
                tell.send_replace(Told::Charge(wanted));
            }
            Err(GuardianError::Surrendered(surrendered)) => {
                surrender(&surrendered);
                known = None;
            }
            // What it was to guard is over.
            Err(GuardianError::Refused(Refusal::Nothing)) => known = None,
            Err(error) => return error,
        }
    }
}

fn surrender(surrendered: &Surrendered) {
    let start = surrendered.start;
    tracing::warn!(?surrendered, "the guardian has ended start {start}: its moment had come");
}

/// Has a guardian that knows the one guard the other.
async fn bring_up_to_date(
    client: &mut Client,
    known: Option<&Charge>,
    wanted: Option<&Charge>,
) -> Result<(), GuardianError> {
    match (known, wanted) {
        (Some(known), None) => client.stand_down(known.start).await,
        (None, None) => Ok(()),
        (Some(known), Some(charge)) if is_same_but_for_time(known, charge) => {
            client.surrender_at(charge.start, charge.until).await
        }
        (Some(known), Some(charge)) if known.start != charge.start => {
            match client.stand_down(known.start).await {
                Ok(()) | Err(GuardianError::Refused(_)) => client.guard(charge).await,
                Err(error) => Err(error),
            }
        }
        (_, Some(charge)) => client.guard(charge).await,
    }
}

fn is_same_but_for_time(known: &Charge, wanted: &Charge) -> bool {
    let Charge { start, cgroup, vips, until: _ } = wanted;
    (known.start, &known.cgroup, &known.vips) == (*start, cgroup, vips)
}
