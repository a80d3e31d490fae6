//! The guardian, from the agent's side: what it is to guard is kept equal to what is wanted, also by the one that
//! comes in the place of another.

use std::sync::Arc;
use std::time::Duration;

use pgha_machine::Moment;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::guardian::{Charge, Client, GuardianError, Refusal, Spawn};

/// How long until a guardian that could not be had is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long one may take to take a charge, its start included, before PostgreSQL is not started or promoted.
const PATIENCE: Duration = Duration::from_secs(10);

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
    wanted: watch::Sender<Option<Charge>>,
    told: watch::Receiver<Told>,
    required: bool,
    task: JoinHandle<()>,
}

impl Guard {
    /// Has a guardian started where none runs, and keeps it told. It is no error to be without one, unless it
    /// is `required`.
    pub(super) fn new(spawn: Spawn, required: bool) -> Self {
        let (wanted, wants) = watch::channel(None);
        let (tell, told) = watch::channel(Told::Trouble("it was not told yet".into()));
        let task = tokio::spawn(keep_told(spawn, wants, tell));
        Self { wanted, told, required, task }
    }

    /// This is to be guarded from now on.
    pub(super) fn charge(&self, charge: Charge) {
        self.wanted.send_replace(Some(charge));
    }

    /// The moment is another.
    pub(super) fn renew(&self, until: Moment) {
        self.wanted.send_if_modified(|charge| match charge {
            Some(charge) if charge.until < until => {
                charge.until = until;
                true
            }
            Some(_) | None => false,
        });
    }

    /// Nothing is to be guarded.
    pub(super) fn stand_down(&self) {
        self.wanted.send_if_modified(|charge| charge.take().is_some());
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

async fn keep_told(
    spawn: Spawn,
    mut wants: watch::Receiver<Option<Charge>>,
    tell: watch::Sender<Told>,
) {
    loop {
        let trouble = match Client::spawn(&spawn).await {
            Ok(client) => tell_all(client, &mut wants, &tell).await,
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
    mut client: Client,
    wants: &mut watch::Receiver<Option<Charge>>,
    tell: &watch::Sender<Told>,
) -> GuardianError {
    let mut known: Option<Charge> = None;
    wants.mark_changed();
    loop {
        tokio::select! {
            changed = wants.changed() => if changed.is_err() {
                return GuardianError::Silent;
            },
            given_up = client.surrendered() => match given_up {
                Ok(surrendered) => {
                    tracing::warn!(?surrendered, "the guardian has ended start {}: its moment had come", surrendered.start);
                    known = None;
                    continue;
                }
                Err(error) => return error,
            },
        }
        let wanted = wants.borrow_and_update().clone();
        let done = match (&known, &wanted) {
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
        };
        match done {
            Ok(()) => {
                known.clone_from(&wanted);
                tell.send_replace(Told::Charge(wanted));
            }
            Err(GuardianError::Surrendered(surrendered)) => {
                tracing::warn!(
                    ?surrendered,
                    "the guardian has ended start {}: its moment had come",
                    surrendered.start
                );
                known = None;
            }
            // What it was to guard is over.
            Err(GuardianError::Refused(Refusal::Nothing)) => known = None,
            Err(error) => return error,
        }
    }
}

fn is_same_but_for_time(known: &Charge, wanted: &Charge) -> bool {
    let Charge { start, cgroup, vips, until: _ } = wanted;
    (known.start, &known.cgroup, &known.vips) == (*start, cgroup, vips)
}
